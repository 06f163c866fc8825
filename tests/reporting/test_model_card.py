"""The model card: read back as the Hub reads it, its table by its cells, its loading code by running it."""

import re

import pytest
import yaml
from helpers.fits import CONFIGS, small, strategy
from helpers.made_results import edited, made

from distillab.models.image_model import ImageModel
from distillab.models.zoo.cifar_resnet import CifarResNet
from distillab.reporting.model_card import model_card
from distillab.strategies.base import Term
from distillab.strategies.strategy import Strategy

# The strategies whose student is not saved as the plain network.
TERMS = {name: Strategy.of(strategy(name)).terms.values() for name in CONFIGS}
SHIPPING = [name for name, terms in TERMS.items() if any(type(term).deploy is not Term.deploy for term in terms)]


def rich(metrics=None, **changes):
    result = made(scheme="offline", command="python train.py strategy=kd seed=3", **changes)
    against = {
        "agreement": 0.9612,
        "kl": 0.1,
        "teacher_errors": 12,
        "repeated_errors": 0.25,
        "repeated_by_chance": 0.1,
        "excess": {"errors": 12, "repeated": 3, "repeated_alone": 2, "low": -1.5, "high": 3.5},
    }
    more = {
        role: {
            "metrics": {"top5": top5, "calibration_error": error, "nll": 0.2},
            "efficiency": {"device": "cpu", "threads": 2},
        }
        for role, top5, error in (("teacher", 0.999, 0.01), ("baseline", 0.98, 0.05), ("student", 0.99, 0.03))
    }
    more["student"]["metrics"] |= {"macro_f1": 0.94, **(metrics or {})}
    more["student"]["against_teacher"] = against
    return edited(
        result,
        data={"name": "digits", "classes": 2, "class_names": ["zero", "one"], "train": 1200, "test": 400},
        versions={"distillab": "0.1", "torch": "2.15", "commit": None},
        limits={"classes": [], "bins": [], "hurt": [], "sentences": ["Weak at zero.", "No class is hurt."]},
        paired={"value": 0.02, "low": 0.001, "high": 0.039},
        **more,
    )


def table(card, heading):
    """The first table below a heading: row heading → cells."""
    section = card.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def test_front_matter_is_what_the_hub_reads():
    _, front, _ = model_card(rich()).split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["library_name"] == "distillab" and front["datasets"] == ["digits"]
    hub = pytest.importorskip("huggingface_hub")
    (accuracy, f1) = hub.ModelCard(model_card(rich())).data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value, accuracy.dataset_name) == ("accuracy", 0.95, "digits")
    assert (f1.metric_type, f1.metric_value, f1.task_type) == ("f1", 0.94, "image-classification")
    assert accuracy.metric_name == "top-1 accuracy, protocol standard"


def test_tables_compare_teacher_alone_and_distilled():
    card = model_card(rich())
    accuracy = table(card, "Accuracy")
    assert accuracy[""] == ["teacher: resnet34", "student alone: resnet8", "this model: resnet8"]
    assert accuracy["top-1 %"] == ["97.00", "93.00", "95.00"] and accuracy["top-5 %"] == ["99.90", "98.00", "99.00"]
    assert accuracy["macro F1 %"] == ["–", "–", "94.00"] and accuracy["calibration error, points"][2] == "3.00"
    assert accuracy["gain over the student alone, points"] == ["–", "–", "+2.00"]
    assert table(card, "Size and speed")["parameters"] == ["21.3 M", "78.0 k", "78.0 k"]
    assert "Measured on cpu, 2 threads." in card


def test_words_say_how_it_was_made_and_where_it_is_weak():
    card = model_card(rich())
    for words in (
        "# resnet8, distilled by kd on digits\n", "an image classifier of 2 classes (zero, one)", "resnet34, 97.00 %",
        "1,200 training, 400 test images", "- Weak at zero.\n- No class is hurt.", "Distillation brought 2.00 points",
        "it speaks of these two trained files, not of the methods", "does on 96.1 % of the test images.",
        "the student repeats 3 and the student alone 2: +1 by distillation (95 % interval −2 to +4)",
        "```\npython train.py strategy=kd seed=3\n```", "Seeds: seed 0, teacher 0, split 0.",
        "Versions: distillab 0.1, torch 2.15.", "Config 0123456789, finished 2030-01-01.",
    ):  # fmt: skip
        assert words in card, words


def test_the_card_says_what_of_the_teacher_was_trained_here_and_how_long_that_took():
    cost = {"time": {"student": 9.0}, "teacher_training_seconds": 12.5}
    trained = {"training": {"source": "trained here", "time": {"data": 2.5, "student": 10.0}}}
    card = model_card(edited(rich(), teacher=trained, cost=cost))
    assert "resnet34 (trained here), 97.00 % top-1. It was trained here as a whole, in 12.5 s." in card
    assert "Training the teacher took 12.5 s, once for all runs that share it." in card.partition("## Cost\n")[2]
    given = model_card(edited(rich(), teacher={"training": {"source": "own.pth"}}))
    assert "97.00 % top-1.\n" in given and "trained here" not in given and "## Cost" not in given


def test_the_protocol_of_papers_is_told_with_both_numbers():
    card = model_card(rich({"top1_best": 0.96, "top1_last": 0.95}, protocol="paper"))
    assert "must not be compared with those of the standard protocol" in card
    accuracy = table(card, "Accuracy")
    assert (accuracy["best epoch on test %"][2], accuracy["last epoch %"][2]) == (
        "96.00",
        "95.00",
    ) and "protocol paper" in card


def test_an_older_result_and_a_student_alone_still_have_a_card():
    card = model_card(made())
    limits = card.partition("## Limits\n\n")[2].partition("\n\n")[0]
    assert limits.count("- ") == 1 and "All figures are of the test split of digits" in limits, "no others are known"
    assert "license: unknown" in card and "**Licence:** not stated" in card and "## Files" not in card
    assert "top-5" not in card and "None" not in card and "NaN" not in card
    alone = model_card(made("none", teacher=None))
    assert "# resnet8, trained alone on digits" in alone and "**Teacher:** none." in alone
    assert table(alone, "Accuracy")[""] == ["this model: resnet8"]


def test_a_strategy_that_ships_more_than_the_student_is_found():
    assert "simkd" in SHIPPING


def loaded_by_its_card(folder, monkeypatch, **config):
    """What the code on the card of a student in this folder gives."""
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", model_card(edited(made(), config=config)), re.DOTALL)
    found = {}
    exec(code, found)
    return found["model"]


RESNET8 = {"_target_": "distillab.models.zoo.cifar_resnet.CifarResNet", "name": "resnet8", "depth": 8,
           "stages": ["layer1", "layer2", "layer3"], "head": "fc"}  # fmt: skip


@pytest.mark.parametrize("target", [RESNET8["_target_"], "test_model_card.Own", "test_model_card.Own.small"])
def test_the_loading_code_gives_the_model_back(tmp_path, monkeypatch, target):
    import torch

    from distillab.core.configuration import ModelConfig
    from distillab.export.safetensors import save_model
    from distillab.models.build import build_model

    config = RESNET8 | {"_target_": target}
    own = ModelConfig.of(config, "student")
    model = build_model(own, "student", ["zero", "one"], (1, 8, 8), mean=[0.5], std=[0.25], seed=4).eval()
    save_model(model, tmp_path / "student.safetensors", config, ["zero", "one"])
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(loaded_by_its_card(tmp_path, monkeypatch, student=config)(images), model(images))
    card = model_card(made(), tmp_path / "student.safetensors")
    assert "- **Input:** images of 8×8 pixels, grey, from 0 to 1, less mean [0.5], divided by std [0.25].\n" in card
    assert "- **Output:** one logit for each class, in the order zero, one.\n" in card
    assert torch.allclose(model.net((images - 0.5) / 0.25), model(images)), "what the card says, without distillab"


class Own(CifarResNet):
    """A class that is not distillab's."""

    @classmethod
    def small(cls, depth, num_classes, in_channels):
        return cls(depth, num_classes=num_classes, in_channels=in_channels)


@pytest.mark.parametrize("name", SHIPPING)
def test_the_loading_code_gives_back_what_a_strategy_ships(tmp_path, monkeypatch, name):
    import torch
    from helpers.fits import distillation, make_batch, make_images

    from distillab.export.safetensors import save_model

    student = ImageModel(small(3), (1, 8, 8), "resnet8", mean=[0.5], std=[0.25], stages=RESNET8["stages"])
    module = distillation(name, student)
    module.losses(make_batch(make_images()), tuple(module.strategy.terms))  # so that running statistics move
    deployed, classes = module.eval().deployed().eval(), [str(number) for number in range(10)]
    assert deployed is not student
    save_model(student, tmp_path / "student.safetensors", RESNET8, classes, deployed=deployed)
    assert torch.equal(
        loaded_by_its_card(tmp_path, monkeypatch, student=RESNET8)(make_images()), deployed(make_images())
    )
