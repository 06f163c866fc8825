"""NaN in data, weights, the teacher's outputs, a loss or a gradient: the fit stops, says which, and keeps its checkpoint."""

import pytest
import torch
from helpers.fits import SHAPE, distillation, make_images, models, strategy, trainer, weights
from torch.utils.data import DataLoader, TensorDataset

from distillab import Distillation
from distillab.core.errors import UserError
from distillab.data.batch import Batch
from distillab.schemes.mutual import MutualDistillation
from distillab.strategies.ce import CrossEntropy

NAN, INF = float("nan"), float("inf")


class Steep(CrossEntropy):
    """A loss that is finite, and whose gradient is not."""

    def rows(self, student, *others):
        return super().rows(student, *others) + (0 * student.sum(-1)).sqrt()


def batches(*values):
    """Four samples of images in one batch; these are the first pixels of the last of them."""
    images = make_images(4)
    images[-1].view(-1)[: len(values)] = torch.tensor(values)
    batch = Batch([{"pixels": images}], {"labels": torch.arange(4)}, torch.tensor([7, 11, 13, 17]))
    return DataLoader([batch], batch_size=None)


@pytest.mark.parametrize("value", [NAN, INF])
def test_samples_that_are_not_finite_are_named(value):
    with pytest.raises(
        UserError, match=r"strategy\.ce became nan in epoch 1: pixels of samples 17 are not finite; .*mend"
    ):
        trainer(1).fit(distillation("kd"), batches(value))


def test_rows_of_a_plain_loader_are_named(network):
    images = make_images(4)
    images[2, 0, 0, 0] = NAN
    module = Distillation(network(), None, input_shape=SHAPE)
    with pytest.raises(UserError, match=r"finite|pixels") as refused:
        trainer(1).fit(module, DataLoader(TensorDataset(images, torch.arange(4)), batch_size=4))
    assert "\n" not in str(refused.value)


def test_a_weight_of_the_student_is_named(network):
    student = network()
    student.fc.bias.data[3] = INF
    with pytest.raises(UserError, match=r"the student's net\.fc\.bias is not finite"):
        trainer(1).fit(distillation("kd", student), batches())


def test_the_outputs_of_the_teacher_are_named(network):
    teacher = network(seed=1)
    teacher.fc.bias.data[3] = NAN
    said = r"strategy\.kd became nan in epoch 1: the teacher's logits of samples 7, 11, 13, … are not finite; .*teacher\.checkpoint"
    with pytest.raises(UserError, match=said):
        trainer(1).fit(distillation("kd", teacher=teacher), batches())


def test_peers_that_teach_each_other_name_the_term(network):
    """What a peer teaches is computed within the loss."""
    peer = models(network, 8, 8)
    peer[1].net.fc.bias.data[3] = NAN
    with pytest.raises(UserError, match=r"strategy\.\w+ became nan in epoch 1; the last good"):
        trainer(1).fit(MutualDistillation(peer, strategy("kd"), input_shape=SHAPE), batches())


def test_a_loss_that_itself_is_not_finite_keeps_its_name():
    class Broken(CrossEntropy):
        def rows(self, *arguments):
            return super().rows(*arguments) * NAN

    with pytest.raises(UserError, match=r"strategy\.broken became nan in epoch 1; .*strategy\.broken\.weight"):
        trainer(1).fit(distillation({"broken": Broken()}), batches())


def test_a_gradient_that_is_not_finite_reaches_no_weight():
    module = distillation({"steep": Steep()})
    before = {name: value.clone() for name, value in weights(module).items()}
    with pytest.raises(UserError, match=r"the gradient of student\.net\.\S+ is not finite in epoch 1, and no weight"):
        trainer(1).fit(module, batches())
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    for name, value in weights(module).items():
        assert name.endswith(statistics) or torch.equal(value, before[name]), name


def test_no_checkpoint_of_broken_weights_replaces_one(tmp_path):
    module, path = distillation("kd"), tmp_path / "last.ckpt"
    engine = trainer(1)
    engine.fit(module, batches())
    engine.save_checkpoint(path)
    kept = path.read_bytes()
    module.student.net.fc.weight.data[0, 0] = NAN
    with pytest.raises(UserError, match=r"the student's net\.fc\.weight is not finite.*checkpoint is kept"):
        engine.save_checkpoint(path)
    assert path.read_bytes() == kept
