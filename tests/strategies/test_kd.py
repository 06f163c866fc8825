"""The distance between softened probabilities (kd)."""

import math

import pytest
import torch
from helpers.fits import confident, distillation, seen_batch
from helpers.method_checks import Case
from helpers.method_tester import LOGITS, NO_DETACH, MethodTester
from helpers.numbers import draw, softmax
from omegaconf import OmegaConf

from distillab import functional
from distillab.commands.composition import compose
from distillab.core.errors import UserError
from distillab.core.recipe import Recipe
from distillab.data.images.sources import Digits


def reference_kd(s, t, temperature):
    """Row by row, class by class."""
    p, q = softmax(t / temperature), softmax(s / temperature)
    rows = [sum(a * (math.log(a) - math.log(b)) for a, b in zip(*pair, strict=True)) for pair in zip(p, q, strict=True)]
    return temperature**2 * sum(rows) / len(rows)


class TestKD(MethodTester):
    configs = ("kd", "kd_tuned", "function_matching")
    cases = {
        "kd": [
            Case(reference_kd, **LOGITS, rest={"temperature": 4.0}, extreme=True),
            Case(reference_kd, **LOGITS, rest={"temperature": 1.0}),
        ],
    }
    mutations = [
        ("kd", "temperature**2 * F.kl_div", "F.kl_div", "T² dropped"),
        ("kd", ".sum(-1)", ".mean(-1)", "mean over classes"),
        ("kd", "F.kl_div(log_student, log_teacher", "F.kl_div(log_teacher, log_student", "KL turned round"),
        ("kd", *NO_DETACH),
    ]


def test_kd_of_a_teacher_from_itself_is_zero():
    assert functional.kd(draw(5, 7), draw(5, 7)).item() == pytest.approx(0, abs=1e-14)


@torch.no_grad()
def test_function_matching_compares_both_models_on_one_mixed_view_and_reads_no_label(tmp_path):
    """The teacher's answer to the mixed image, not the mixture of its answers to both."""
    data = Digits("digits", tmp_path, samples=64, augment={"crop": 1, "mixup": 1.0})
    data.prepare()
    module = distillation("function_matching", teacher=confident()).eval()
    batch = seen_batch(data.configure(64, 0), module)
    module.eval()
    assert data.mixes and ((batch.labels > 0).sum(1) == 2).float().mean() > 0.7, "most have a partner of another class"
    s, t = (model(**batch.inputs[0]).double() for model in (module.student, module.teacher.model))
    expected = reference_kd(s.numpy(), t.numpy(), 1.0)
    assert module.losses(batch, ("kd",))["kd"].item() == pytest.approx(expected, rel=1e-5)
    batch.targets["labels"] = batch.labels.roll(1, 0)
    assert module.losses(batch, ("kd",))["kd"].item() == pytest.approx(expected, rel=1e-5)
    assert list(module.strategy.terms) == ["kd"]


def test_the_experiment_mixes_evenly_for_very_long():
    config = compose(["experiment=function_matching"])
    recipe = Recipe.of(OmegaConf.to_container(config.recipe, resolve=True))
    assert list(config.strategy) == ["kd"] and config.data.augment.mixup == 1.0 and config.data.views is None
    assert (recipe.epochs, recipe.schedule, recipe.optimizer, recipe.warmup) == (1200, "cosine", "adamw", 0)
    assert config.teacher.recipe.optimizer == "sgd", "a teacher trained here keeps its own recipe"


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="must"):
        functional.kd(draw(2, 3), draw(3, 4))
