"""A teacher whose weights never saw these classes: one command each for a new head, for all of it, for its features."""

import re
import shutil

import pytest
from helpers import small_run
from helpers.five_classes import save_five_classes

from distillab.core.errors import UserError
from distillab.reporting.cost_words import cost_line
from distillab.reporting.model_card import model_card


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the weights of a resnet14 for five classes of grey images."""
    folder = tmp_path_factory.mktemp("adapted")
    save_five_classes(folder)
    return folder


def run(place, *words):
    with small_run.unmeasured():
        own = (f"teacher.checkpoint={place}/five.safetensors", "data.samples=256", "recipe.epochs=1")
        return small_run.run(place, *own, *words)


def test_a_head_is_fitted_once_and_the_teacher_teaches(place, capsys):
    result = run(place, "strategy=kd")
    told = capsys.readouterr().out
    assert (
        "a head is fitted on its frozen features (its weights tell 5 other classes apart, and the data have 10)" in told
    )
    assert "the data's mean and std are assumed" in told
    training = result.teacher.training
    assert "with a head fitted here on 256 samples, weight decay" in training.source and not training.reused
    assert result.teacher.metrics["top1"] > 0.3  # five times chance by random features
    assert result.cost.teacher_training_seconds == pytest.approx(training.seconds) and training.seconds > 0
    card, took = model_card(result), f"{training.seconds:.1f} s"
    assert f" top-1. Its head was fitted here on 256 samples, in {took}; the rest of it is as it came." in card
    assert f"Training the teacher took {took}, once" in card.partition("## Cost")[2]
    assert f"{took} before it to train the teacher (or its head)" in cost_line(result)
    copied = shutil.copy(place / "five.safetensors", place / "copied.safetensors")
    again = run(place, "strategy=kd", "seed=1", f"teacher.checkpoint={copied}")
    assert again.teacher.training.reused and again.teacher.metrics == result.teacher.metrics
    assert again.teacher.training.source == training.source.replace("five.safetensors", "copied.safetensors")
    said = capsys.readouterr().out
    assert "the head on its frozen features is reused from the store" in said and "is fitted" not in said
    hashes = [re.findall(r"weights (\w{12}) without the fitted head, (\w{12}) with it", text) for text in (told, said)]
    assert hashes[0] == hashes[1] and len(hashes[0]) == 1


def test_the_hash_of_a_checkpoint_is_the_same_whatever_the_head(place, capsys):
    found = []
    for words in ((), ("teacher.labelled=0.5",)):
        run(place, "strategy=kd", "baseline=false", "teacher.seed=7", *words)
        (hashes,) = re.findall(r"weights (\w+) without the fitted head, (\w+) with it", capsys.readouterr().out)
        found.append(hashes)
    assert found[0][0] == found[1][0] and found[0][1] != found[1][1]


def test_features_alone_teach_what_reads_no_logits(place):
    result = run(place, "strategy=hint", "teacher.adapt=none", "baseline=false")
    assert result.teacher.metrics["top1"] > 0.3 and result.student.metrics["top1"] >= 0
    assert "Its features taught as they came; a head was fitted here on 256 samples, in " in model_card(result)
    for words, said in (
        (["strategy=kd"], r"strategy\.kd needs them: teacher\.adapt=head gives it a head"),
        (["strategy=simkd"], r"strategy\.simkd needs them"),
        (["strategy=hint", "data.labelled=0.5"], r"labels that are hidden: .*data\.labels=all data\.labelled=1\.0"),
        (["strategy=kd", "scheme=ema"], r"teacher\.adapt"),
    ):
        with pytest.raises(UserError, match=said):
            run(place, "teacher.adapt=none", *words)


def test_all_of_it_trains_at_a_smaller_rate_from_the_new_head_on(place, capsys):
    result = run(place, "strategy=kd", "teacher.adapt=all", "teacher.recipe.epochs=2", "baseline=false")
    told = capsys.readouterr().out
    place_of = told.index("before teacher.adapt=all")
    assert max(told.find("a head is fitted"), told.find("the head on its frozen features is reused")) in range(place_of)
    assert result.config["teacher"]["recipe"]["lr"] == pytest.approx(0.1 * result.config["recipe"]["lr"])
    training = result.teacher.training
    assert training.time["head"] > 0 and result.cost.teacher_training_seconds == pytest.approx(
        sum(training.time.values())
    )
    card, took = model_card(result), f"{training.total_seconds:.1f} s"
    assert f"All of it was trained here (teacher.adapt=all), in {took}, and was better on validation before" in card
    assert f"Training the teacher took {took}, once" in card.partition("## Cost")[2]
    words = ("teacher.recipe.epochs=8", "teacher.recipe.lr=2e-2", "teacher.recipe.batch_size=32", "baseline=false")
    typed = run(place, "strategy=kd", "teacher.adapt=all", *words)
    assert typed.config["teacher"]["recipe"]["lr"] == 2e-2
    took = f"{typed.teacher.training.total_seconds:.1f} s"
    assert f"The whole of it was trained here (teacher.adapt=all), in {took}; it had top-1 " in model_card(typed)


def test_it_is_for_images(place):
    with pytest.raises(UserError, match=r"teacher\.adapt=head is for images, .*teacher\.adapt=all"):
        run(place, "data=sotu", "student=llama_170k", "teacher=llama_1m4", "teacher.adapt=head", "strategy=kd")
