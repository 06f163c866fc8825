"""The LightningModule: the teacher's contract, phases, and exact resumes. What every strategy must pass: helpers.method_tester."""

import lightning as L
import pytest
import torch
from helpers.fits import SHAPE, DropoutNet, assert_equal, make_batch, stop_and_resume, strategy, trainer, weights

from distillab import Distillation
from distillab.core.errors import UserError


def test_the_teacher_is_absent_from_the_checkpoint_and_loading_is_strict(tmp_path, digits, network):
    teacher = network(seed=1)
    module = Distillation(network(), teacher, strategy("kd"), input_shape=SHAPE)
    engine = trainer(1)
    engine.fit(module, datamodule=digits.configure(64, 0))
    engine.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved["state_dict"] and not [k for k in saved["state_dict"] if k.startswith("teacher.")]
    module.on_load_checkpoint(saved)
    module.load_state_dict(saved["state_dict"], strict=True)


@pytest.mark.parametrize("name", ["kd", "hint_two_phase"])
@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_stop_in_mid_epoch_and_a_resume_end_in_the_unbroken_weights(name, stop_at, tmp_path, few_digits, network):
    def make():
        torch.manual_seed(0)
        return Distillation(DropoutNet(), network(seed=1), strategy(name), input_shape=SHAPE, recipe={"lr": 1e-3})

    data = lambda module: few_digits.configure(48, 0)  # noqa: E731 - 128 images: 3 steps an epoch
    assert_equal(*stop_and_resume(make, data, stop_at, 3, tmp_path))


def test_a_stop_waits_for_the_end_of_a_step_of_several_batches(tmp_path, few_digits, network):
    def make():
        torch.manual_seed(0)
        return Distillation(DropoutNet(), network(seed=1), strategy("kd"), input_shape=SHAPE, recipe={"lr": 1e-3})

    data = lambda module: few_digits.configure(16, 0, accumulate=2)  # noqa: E731
    assert_equal(*stop_and_resume(make, data, 2, 2, tmp_path, accumulate_grad_batches=2))


def test_dropout_does_not_depend_on_what_was_drawn_before(digits):
    ends = []
    for noise in (1, 2):
        torch.manual_seed(0)
        module = Distillation(DropoutNet(), None, strategy("none"), input_shape=SHAPE)
        torch.manual_seed(noise)
        trainer(1).fit(module, datamodule=digits.configure(64, 0))
        ends.append(weights(module))
    assert_equal(*ends)


def test_an_undeclared_read_is_an_error(network):
    from distillab.strategies.base import Term

    class Nosy(Term):
        needs = ("student.logits",)

        def forward(self, student, teacher, batch):
            return student.logits.sum() + teacher.logits.sum()

    module = Distillation(network(), network(), {"kd": strategy("kd")["kd"], "nosy": Nosy()}, input_shape=SHAPE)
    with pytest.raises(AttributeError):
        module.losses(make_batch(torch.rand(2, *SHAPE)), ("nosy",))


def test_a_loss_that_is_not_finite_stops_and_names_the_term(digits, network):

    from distillab.strategies.ce import CrossEntropy

    class Broken(CrossEntropy):
        def rows(self, *arguments):
            return super().rows(*arguments) * float("nan")

    module = Distillation(network(), None, {"broken": Broken()}, input_shape=SHAPE)
    with pytest.raises(UserError, match=r"strategy\.broken became nan"):
        trainer(1).fit(module, datamodule=digits.configure(64, 0))


def test_a_plain_trainer_and_a_plain_loader_work(plain_loader, network):
    module = Distillation(network(), network(seed=1), strategy("hint"), input_shape=SHAPE)
    L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu").fit(module, plain_loader)
    assert module.trainer.global_step == 4
