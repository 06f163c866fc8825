"""What a run of language models is called everywhere: no image, no accuracy, the direction of its figure."""

import json
from pathlib import Path

import pytest
import yaml
from helpers.made_results import edited, made, put
from helpers.made_study import full

from distillab.core.configuration import Prices
from distillab.core.result import Result
from distillab.core.result_reader import read
from distillab.evaluation.cost import with_cost
from distillab.reporting.comparison import compare
from distillab.reporting.leaderboard import update
from distillab.reporting.model_card import model_card
from distillab.reporting.network_sections import deployed, judgement
from distillab.reporting.plots import figure
from distillab.reporting.run_end import show
from distillab.reporting.sections import accuracy
from distillab.reporting.text_words import sentences
from distillab.reporting.words import cost_words, verdict

GENERATION = {
    "prompt": 64,
    "new": 64,
    "first_token_ms": 6.0,
    "tokens_per_second": 326.0,
    "spread": 0.05,
    "peak_memory_bytes": 942_000,
}
TEXT = {
    "intervals": {"student": [1.8, 2.0]},
    "kinds": [{"name": "1800s", "bytes": 1000, "scores": {"teacher": 2.0, "baseline": 2.3, "student": 2.2}}],
    "acceptance": {"student": {"rate": 0.65, "tokens": 2048}, "baseline": {"rate": 0.61, "tokens": 2048}},
    "generation": {
        "teacher": {**GENERATION, "tokens_per_second": 164.0, "first_token_ms": 22.6},
        "student": GENERATION,
    },
    "samples": [{"prompt": "Fellow\n<b>", "continuations": {"teacher": "citizens", "student": "people | of"}}],
    "sentences": ["The teacher is worst on 1800s."],
}


def language(student=1.9, alone=1.95, teacher=1.8, **changes):
    """A result whose figure is bits per byte."""
    result = made().model_dump()
    for role, value in (("teacher", teacher), ("baseline", alone), ("student", student)):
        known = {"bits_per_byte": value, "perplexity": 50.0, "top1": 0.2, "calibration_error": 0.01}
        result[role] |= {"metrics": known, "validation": {"bits_per_byte": value}}
        result[role]["efficiency"] |= {"throughput": 357.0, "device": "cpu", "threads": 1}
    against = {"agreement": 0.4, "teacher_errors": 1000, "repeated_errors": 0.41, "repeated_by_chance": 0.26}
    against["excess"] = {"errors": 1000, "repeated": 410, "repeated_alone": 390, "low": 8.0, "high": 32.0}
    for role in ("baseline", "student"):
        result[role]["against_teacher"] = against
    result |= {"task": "causal_lm", "name": "sotu", "gain": alone - student, "text": TEXT}
    result |= {"primary": {"name": "bits_per_byte", "value": student, "higher_is_better": False}}
    result["data"] = {"name": "sotu", "classes": 1, "class_names": ["text"], "train": 400, "test": 1659}
    result["config"] = {"seed": 0, "student": {"_target_": "distillab.models.causal_lm.llama"}}
    return edited(Result.model_validate(result), **changes)


def test_it_is_written_and_read_and_an_image_run_has_no_such_part(tmp_path):
    put(tmp_path, language(), made())
    files = sorted(tmp_path.rglob("result.json"))
    images, text = (read(next(file for file in files if name in str(file)))[0] for name in ("digits", "sotu"))
    assert text == language() and images == made()
    assert [("text" in json.loads(file.read_text())) for file in files] == ["sotu" in str(file) for file in files]


def test_the_end_of_a_run_and_its_card_say_blocks_tokens_and_no_image(capsys):
    result = language()
    show(result, Path("runs/sotu/0123456789"))
    end, card = capsys.readouterr().out, model_card(result)
    assert "sotu, protocol standard, 1,659 test blocks" in end and "latency, one block" in end
    assert "+0.050 in bits per byte (less is better) over the same student alone" in end
    tested = edited(result, paired={"value": 0.05, "low": 0.04, "high": 0.06, "documents": 12})
    assert "(95 % interval 0.040 to 0.060 on 12 test documents)" in verdict(tested)
    assert (
        "Of the teacher's 1,000 errors (tokens that are not its likeliest) the student repeats 410 and the student alone 390"
        in card
    )
    assert "keep 65.0 % of the tokens that the student drafts (61.0 % of the student alone's)" in card
    assert "it gives 326 tokens a second, the first after 6.00 ms (the teacher 164 tokens a second" in card
    for said in (end, card.partition("---\n\n")[2]):
        assert "image" not in said and "accuracy" not in said and "bits_per_byte" not in said
    busy = edited(result, text={"generation": {"student": {"spread": 2.0}}})
    assert "tokens a second" not in "".join(sentences(busy)) and "machine was busy" in "".join(sentences(busy))


def test_tokens_are_what_is_paid_for_where_the_models_write():
    paid = with_cost(language(), Prices(price_per_hour=3600.0))  # 1 a second
    assert paid.cost.roi.unit == "tokens" and paid.cost.roi.teacher_per_million == pytest.approx(1e6 / 164)
    assert "A million tokens cost" in "".join(cost_words(paid))
    mute = language().changed(text=language().text.model_copy(update={"generation": {}}))
    assert with_cost(mute, Prices(price_per_hour=3600.0)).cost.roi.unit is None, "blocks, as they are read"


def test_the_model_card_is_one_of_a_language_model(tmp_path, monkeypatch):
    card = model_card(language())
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["pipeline_tag"] == "text-generation"
    assert [one["type"] for one in front["model-index"][0]["results"][0]["metrics"]] == ["bits_per_byte", "perplexity"]
    assert "image" not in card and "a causal language model" in card and "400 training, 1,659 test blocks" in card
    assert 'AutoModelForCausalLM.from_pretrained("student")' in card and "load_student" not in card
    assert "| 1800s | 1,000 | 2.000 | 2.300 | 2.200 |" in card and "| blocks per second |" in card
    assert "**Fellow &lt;b>** …" in card and "- student: … people | of" in card
    assert "tokens per second, written one text at a time | 164 | – | 326 |" in card
    own = edited(language(), config={"student": {"_target_": "my.Net"}})
    assert "AutoModel" not in model_card(own) and "`my.Net`" in model_card(own)


def test_less_is_better_on_the_leaderboard_and_in_the_picture(tmp_path):
    results = [language(1.9), language(1.7, strategy="dkd"), language(2.1, strategy="crd")]
    put(tmp_path, *results)
    update(tmp_path)
    board = (tmp_path / "leaderboard.md").read_text()
    ranked = [
        line.split("|")[2].strip() for line in board.splitlines() if line.startswith("|") and "| sotu" not in line
    ][2:]
    assert ranked == ["dkd", "kd", "student alone", "crd"]
    assert "dkd ranks first of 4 on validation, with 1.700 on test" in board and "bits_per_byte" not in board
    assert "| bits per byte |" in board and "image" not in board.replace("equal epochs, images and seeds", "")
    axis = figure(compare(results)).to_dict()["concat"][0]["layer"][-1]["encoding"]["y"]
    low, high = axis["scale"]["domain"]
    assert axis["title"] == "bits per byte on test, less is better"
    assert 1.6 < low < 1.7 and 2.1 < high < 2.2, "as far as the points reach"


def test_the_report_calls_samples_by_the_task_and_keeps_its_words_for_images():
    text, images = compare([language()]), compare([made()])

    def headings(section):
        return section.views[0].tables[0].headings

    assert "blocks per second" in headings(deployed(text)) and "latency of one block" in deployed(text).text
    assert "images per second" not in headings(deployed(text)) and "latency of one image" in deployed(images).text
    assert list(headings(judgement(text))[1:4]) == [
        "likeliest token is right %", "perplexity of a token", "calibration error, points",
    ]  # fmt: skip
    assert "perplexity of a token" not in headings(judgement(compare([full("kd", 0.95, 0)])))
    assert [accuracy(rows).title for rows in (text, images)] == ["Bits per byte against cost", "Top-1 against cost"]


@pytest.mark.parametrize("key", ["kinds", "acceptance", "generation", "samples"])
def test_what_was_not_measured_is_left_out(key):
    result = language()
    empty = result.changed(text=result.text.model_copy(update={key: type(getattr(result.text, key))()}))
    assert model_card(empty) and sentences(empty)
