"""The model card: read back as the Hub reads it, its table by its cells, its loading code by running it."""

import re

import pytest
import yaml
from helpers.made_results import made

from distillab.reporting.model_card import model_card


def rich(**changes):
    result = made(scheme="offline", command="python train.py strategy=kd seed=3", **changes)
    result["data"] = {"name": "digits", "classes": 2, "class_names": ["zero", "one"], "train": 1200, "test": 400}
    result["versions"] = {"distillab": "0.1", "torch": "2.15", "commit": None}
    for role, top5, error in (("teacher", 0.999, 0.01), ("baseline", 0.98, 0.05), ("student", 0.99, 0.03)):
        result[role] |= {"top5": top5, "calibration_error": error, "nll": 0.2, "device": "cpu", "threads": 2}
    against = {"agreement": 0.9612, "kl": 0.1, "teacher_errors": 12, "repeated_errors": 0.25, "repeated_by_chance": 0.1}
    result["student"] |= {"macro_f1": 0.94, "against_teacher": against}
    result["limits"] = {"classes": [], "bins": [], "hurt": [], "sentences": ["Weak at zero.", "No class is hurt."]}
    result["paired"] = {"words": "No difference was shown on these test images."}
    return result


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
        "1200 training, 400 test images", "- Weak at zero.\n- No class is hurt.", "Distillation brought +2.0 points",
        "No difference was shown on these test images.", "does on 96.1 % of the test images and repeats 25.0 % of",
        "```\npython train.py strategy=kd seed=3\n```", "Seeds: seed 0, teacher 0, split 0.",
        "Versions: distillab 0.1, torch 2.15.", "Config 0123456789, finished 2030-01-01.",
    ):  # fmt: skip
        assert words in card, words


def test_the_protocol_of_papers_is_told_with_both_numbers():
    result = rich(protocol="paper")
    result["student"] |= {"top1_best": 0.96, "top1_last": 0.95}
    card = model_card(result)
    assert "must not be compared with those of the standard protocol" in card
    assert "Best epoch on test 96.00 %, last epoch 95.00 %." in card and "protocol paper" in card


def test_an_older_result_and_a_student_alone_still_have_a_card():
    card = model_card(made())
    assert "## Limits" not in card and "top-5" not in card and "None" not in card and "NaN" not in card
    alone = model_card(made("none", teacher=None))
    assert "# resnet8, trained alone on digits" in alone and "**Teacher:** none." in alone
    assert table(alone, "Accuracy")[""] == ["this model: resnet8"]


def test_the_loading_code_gives_the_model_back(tmp_path, monkeypatch):
    import torch

    from distillab.export.safetensors import save_model
    from distillab.models.build import build_model

    config = {"_target_": "distillab.models.zoo.cifar_resnet.CifarResNet", "name": "resnet8", "depth": 8,
              "stages": ["layer1", "layer2", "layer3"], "head": "fc"}  # fmt: skip
    model = build_model(config, "student", ["zero", "one"], (1, 8, 8), mean=[0.5], std=[0.25], seed=4).eval()
    save_model(model, tmp_path / "student.safetensors", config, ["zero", "one"])
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", model_card(made()), re.DOTALL)
    found = {}
    exec(code, found)
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(found["model"](images), model(images))
