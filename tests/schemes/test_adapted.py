"""A teacher whose weights never saw these classes: one command each for a new head, for all of it, for its features."""

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
    assert f"{took} before it for the teacher's" in cost_line(result)
    again = run(place, "strategy=kd", "seed=1")
    assert again.teacher.training.reused and again.teacher.metrics == result.teacher.metrics
    assert "a head is fitted" in capsys.readouterr().out


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
    assert "before teacher.adapt=all" in told and told.index("a head is fitted") < told.index(
        "before teacher.adapt=all"
    )
    assert result.config["teacher"]["recipe"]["lr"] == pytest.approx(0.1 * result.config["recipe"]["lr"])
    training = result.teacher.training
    assert training.time["head"] > 0 and result.cost.teacher_training_seconds == pytest.approx(
        sum(training.time.values())
    )
    card, took = model_card(result), f"{training.total_seconds:.1f} s"
    assert f"The whole of it was trained here (teacher.adapt=all), in {took}; it had top-1 " in card
    assert f"Training the teacher took {took}, once" in card.partition("## Cost")[2]
    typed = run(
        place, "strategy=kd", "teacher.adapt=all", "teacher.recipe.epochs=2", "teacher.recipe.lr=1e-3", "baseline=false"
    )
    assert typed.config["teacher"]["recipe"]["lr"] == 1e-3


def test_it_is_for_images(place):
    with pytest.raises(UserError, match=r"teacher\.adapt=head is for images, .*teacher\.adapt=all"):
        run(place, "data=sotu", "student=llama_170k", "teacher=llama_1m4", "teacher.adapt=head", "strategy=kd")
