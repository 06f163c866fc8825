"""The usual distillation loop, as a program of its own: PIL in DataLoader workers, the teacher run in every step.

What it imports is what such a program imports: torch and torchvision, no lightning.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from distillab.commands.composition import conf_dir
from distillab.core.configuration import ModelConfig
from distillab.models.build import build_model
from distillab.models.image_model import ImageModel
from distillab.strategies.kd import kd

BATCH, CLASSES, SHAPE = 64, 100, (3, 32, 32)
MEAN, STD = [0.5] * 3, [0.25] * 3
WORKERS = 2
TEMPERATURE = 4.0


def device() -> torch.device:
    """Where everything runs."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def network(name: str, role: str, seed: int = 0) -> ImageModel:
    """A model of the zoo with fresh weights."""
    config = ModelConfig.of(yaml.safe_load((conf_dir() / "model" / f"{name}.yaml").read_text()))
    return build_model(config, role, [str(i) for i in range(CLASSES)], SHAPE, mean=MEAN, std=STD, seed=seed)


def transform(augmented: bool) -> Any:
    """Torchvision's transforms of PIL images, as CIFAR loaders usually have them."""
    from torchvision import transforms

    steps = [transforms.RandomCrop(SHAPE[1], padding=4), transforms.RandomHorizontalFlip()] if augmented else []
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def loader(data: Dataset, shuffle: bool) -> DataLoader:
    """Batches, whole ones alone in training."""
    return DataLoader(data, BATCH, shuffle=shuffle, drop_last=shuffle, num_workers=WORKERS)


def sgd(student: nn.Module) -> torch.optim.Optimizer:
    """The optimiser."""
    return torch.optim.SGD(student.parameters(), 0.05, 0.9, weight_decay=5e-4)


def step(
    student: nn.Module, teacher: nn.Module | None, images: Tensor, target: Tensor, optimizer: torch.optim.Optimizer
) -> None:
    """One step of plain KD, or without a teacher of cross-entropy."""
    images, target = images.to(device()), target.to(device())
    if teacher is None:
        loss = F.cross_entropy(student(images), target)
    else:
        with torch.no_grad():
            taught = teacher(images)
        logits = student(images)
        loss = 0.1 * F.cross_entropy(logits, target) + 0.9 * kd(logits, taught, TEMPERATURE)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def top1(student: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of the images whose class is found."""
    student.eval()
    right = [student(images.to(device())).argmax(-1).cpu() == target for images, target in batches]
    student.train()
    return float(torch.cat(right).float().mean())


def run(
    folder: Path,
    student: str,
    epochs: int,
    teacher: tuple[str, Path] | None = None,
    save: Path | None = None,
    seed: int = 0,
) -> float:
    """Train on folder/train, look at folder/val after every epoch, and at folder/test once.

    Args:
        folder: train/, val/ and test/, each with a folder of 32×32 images per class.
        student: what trains, by its name in conf/model.
        epochs: how long.
        teacher: its name in conf/model, and the file of its weights; None trains without.
        save: where the trained weights go.
        seed: of the weights, the order and the augmentation.

    Returns:
        Top-1 on the test images.
    """
    from torchvision.datasets import ImageFolder

    torch.manual_seed(seed)
    parts = {part: ImageFolder(folder / part, transform(part == "train")) for part in ("train", "val", "test")}
    net, taught = network(student, "student", seed).net.to(device()).train(), None
    if teacher is not None:
        taught = network(teacher[0], "teacher").net
        taught.load_state_dict(torch.load(teacher[1], weights_only=True))
        taught.to(device()).eval()
    optimizer, batches = sgd(net), loader(parts["train"], shuffle=True)
    for epoch in range(epochs):
        for images, target in batches:
            step(net, taught, images, target, optimizer)
        print(
            f"epoch {epoch + 1}/{epochs}  val {100 * top1(net, loader(parts['val'], shuffle=False)):.2f} %", flush=True
        )
    if save is not None:
        torch.save(net.state_dict(), save)
    return top1(net, loader(parts["test"], shuffle=False))


def main() -> None:
    """`python -m benchmark.usual FOLDER STUDENT --epochs 3 [--teacher NAME --weights FILE] [--save FILE]`."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("student")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--teacher")
    parser.add_argument("--weights", type=Path, help="of the teacher")
    parser.add_argument("--save", type=Path, metavar="FILE")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    teacher = (options.teacher, options.weights) if options.teacher else None
    found = run(options.folder, options.student, options.epochs, teacher, options.save, options.seed)
    print(f"test {100 * found:.2f} %")


if __name__ == "__main__":
    main()
