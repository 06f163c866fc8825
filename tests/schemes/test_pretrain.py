"""A ready-made teacher as it is, and one that is trained on the data first."""

import pytest
import torch
from helpers.fits import assert_equal, small
from helpers.small_text import LENGTH, TOKENS, small_llama, taught, text_data, tokenizer_folder
from safetensors.torch import save_file

from distillab.core.configuration import ModelConfig, TrainerConfig
from distillab.core.errors import UserError
from distillab.core.recipe import Protocol
from distillab.core.run_identity import config_hash
from distillab.models.image_model import ImageModel
from distillab.schemes.measure import predictions
from distillab.schemes.pretrain import Pretraining, obtain_teacher
from distillab.schemes.setting import Setting
from distillab.schemes.store import Store
from distillab.tasks.causal_lm import LanguageModeling
from distillab.tasks.image_classification import ImageClassification

RECIPE = {"epochs": 1, "batch_size": 32, "lr": 3e-3}


def setting(place, task):
    trainer = TrainerConfig(accelerator="cpu", progress_bar=False)
    return Setting(Store(place / "store"), Protocol("standard", 0.1), trainer, task)


def started(model, place, **role):
    """The config of a teacher that starts from a file of this model's weights."""
    save_file({name: value.clone() for name, value in model.net.state_dict().items()}, place / "weights.safetensors")
    node = {"_target_": "distillab.models.causal_lm.llama", "checkpoint": str(place / "weights.safetensors"), "seed": 0}
    return ModelConfig.of(node | {"recipe": RECIPE} | role)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    return text_data(place, tokenizer_folder(place / "tokenizer"))


def weights(model):
    return {name: value.clone() for name, value in model.net.state_dict().items()}


def test_a_ready_made_teacher_is_adapted_once_and_kept(text, tmp_path, capsys):
    run, model = setting(tmp_path, LanguageModeling(LENGTH, TOKENS)), taught(small_llama(1), text, 5)
    config, before = started(model, tmp_path, adapt="all"), weights(model)
    made = obtain_teacher(model, config, text, run)
    told = capsys.readouterr().out
    assert not made.training.reused and made.training.seen_validation == "unknown"
    assert "before teacher.adapt=all" in told and "adapted here; before: bits per byte" in told
    after = weights(model)
    assert any((after[name] != before[name]).any() for name in before)
    again = taught(small_llama(1), text, 5)
    unchanged = obtain_teacher(again, started(again, tmp_path), text, run)
    assert_equal(weights(again), before)  # without it the weights are as they came
    assert made.scores["test"] < unchanged.scores["test"] - 0.1
    kept = obtain_teacher(again, config, text, run)
    assert kept.training.reused and kept.scores == made.scores
    assert_equal(weights(again), after)
    other = taught(small_llama(2), text, 5)  # other weights in a file of the same name are another teacher
    assert not obtain_teacher(other, started(other, tmp_path, adapt="all"), text, run).training.reused


def test_it_leaves_no_trace_where_it_is_off(text, tmp_path):
    run, model = setting(tmp_path, LanguageModeling(LENGTH, TOKENS)), small_llama(1)

    def key(**role):
        config = started(model, tmp_path, **role)
        return Pretraining(model, config, text, config.recipe.alone, 0, "teacher", run).key()

    assert key() == key(adapt=None) and "adapted" not in key()
    assert set(key(adapt="all")) - set(key()) == {"adapted"}
    off, on = ({"teacher": {"_target_": "x", "adapt": value}} for value in (None, "all"))
    assert config_hash(off) == config_hash({"teacher": {"_target_": "x"}}) != config_hash(on)


def test_what_is_trained_here_anyway_is_refused(text, tmp_path):
    run, model = setting(tmp_path, LanguageModeling(LENGTH, TOKENS)), small_llama(1)
    with pytest.raises(UserError, match=r"teacher\.adapt=null, or teacher\.checkpoint=…"):
        obtain_teacher(model, started(model, tmp_path, adapt="all", checkpoint=None), text, run)


def test_a_teacher_of_images_is_adapted_likewise(few_digits, tmp_path):
    run = setting(tmp_path, ImageClassification())
    model = ImageModel(small(1), (1, 8, 8), "resnet8", mean=[0.5], std=[0.5])
    config, before = started(model, tmp_path, adapt="all", recipe=RECIPE | {"epochs": 3}), weights(model)
    made = obtain_teacher(model, config, few_digits, run)
    assert made.training.epochs == 3 and any((weights(model)[name] != before[name]).any() for name in before)
    assert torch.isfinite(torch.tensor(made.scores["test"]))


def test_fine_tuning_that_did_not_help_is_undone_by_what_validation_says(few_digits, tmp_path, capsys):
    run = setting(tmp_path, ImageClassification())
    good = ImageModel(small(1), (1, 8, 8), "resnet8", mean=[0.5], std=[0.5])
    obtain_teacher(good, started(good, tmp_path, adapt="all", recipe=RECIPE | {"epochs": 6}), few_digits, run)
    config = started(good, tmp_path, adapt="all", recipe=RECIPE | {"lr": 30.0})
    before, as_it_came = weights(good), obtain_teacher(good, started(good, tmp_path), few_digits, run)
    capsys.readouterr()
    for reused in (False, True):
        made = obtain_teacher(good, config, few_digits, run)
        told = capsys.readouterr().out
        assert_equal(weights(good), before)
        assert made.scores == as_it_came.scores and made.training.reused is reused
        assert made.training.epochs == 1 and made.training.epoch == 0 and made.training.seconds > 0
        was = f"{100 * made.scores['validation']:.2f} % on validation before"
        assert f"fine-tuning did not help: top-1 {was}" in told and "the weights are kept as they came" in told
        assert made.training.source.startswith(f"{config.checkpoint}; fine-tuning did not help: top-1 {was}, ")
        logits, _ = predictions(good, few_digits, run, made.folder)  # those of the weights that are kept
        assert torch.equal(logits, predictions(good, few_digits, run)[0])
