import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from distillab import Distillation

digits = load_digits()  # 1,797 real images of 8 by 8 pixels, from 0 to 16
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
data = TensorDataset(images, torch.tensor(digits.target))
train, test = random_split(data, [0.8, 0.2], torch.Generator().manual_seed(0))


def network(width):
    convolution = nn.Conv2d(1, width, 3, padding=1)
    return nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * width, 10))


def fit(student, teacher=None, strategy="none"):
    module = Distillation(student, teacher, strategy, input_shape=(1, 8, 8))
    trainer = lightning.Trainer(max_epochs=10, logger=False, enable_checkpointing=False)
    trainer.fit(module, DataLoader(train, batch_size=64, shuffle=True))
    trainer.test(module, DataLoader(test, batch_size=64))
    return module


teacher = fit(network(64)).student.net  # the network that was given, trained
# Several methods are ["kd", "hint"], your own terms {"ce": CrossEntropy(0.1), "kd": KD(0.9, temperature=4)}.
module = fit(network(16), teacher, "kd")
torch.save(module.student.net.state_dict(), "student.pt")
print(module(images[:5]).argmax(1), digits.target[:5])
