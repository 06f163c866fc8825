"""Whole runs on text: trained, cached, stopped and resumed, judged in bits per byte, exported for transformers."""

import os
import subprocess
import sys
from math import log
from types import SimpleNamespace

import pytest
import torch
from helpers import small_run
from helpers.small_text import small_llama
from helpers.texts import write
from safetensors.torch import load_file

from distillab.commands import steps
from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.instantiate import build
from distillab.data.text.tokenizer import load_tokenizer
from distillab.tasks.causal_lm import LanguageModeling

WORDS = ("data=text", "logger=none", "equal_compute=false")
WORDS += ("data.vocabulary=300", "data.length=32", "data.samples=48", "recipe.epochs=2", "teacher.recipe.epochs=3")
WORDS += ("teacher.width=32", "teacher.layers=2", "teacher.hidden=48")
KD = ("strategy=kd", "strategy.kd.temperature=1", "student.width=16", "student.hidden=24")
WORDS += ("cache.top_k=16",)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    write(folder, 25)
    return folder


@pytest.fixture(autouse=True)
def quick(unmeasured):
    """No timings, tables and plots."""


def run(place, *words, data=None, base=KD):
    return small_run.run(place, f"data.path={data or place}/topics.jsonl", *words, base=(*WORDS, *base))


def student(place, result):
    return load_file(place / "runs" / "topics.jsonl" / result.config_hash / "student.safetensors")


@pytest.fixture(scope="module")
def trained(place):
    with small_run.unmeasured():
        return run(place)


def test_it_is_judged_by_bits_of_which_less_is_better(trained):
    assert trained.task == "causal_lm"
    assert (trained.primary.name, trained.primary.higher_is_better) == ("bits_per_byte", False)
    for entry in trained.entries.values():
        figures = entry.metrics
        assert figures["perplexity"] == pytest.approx(torch.tensor(figures["nll"]).exp().item(), rel=1e-6)
        assert 0 < figures["bits_per_byte"] < log(300, 2), "fewer than a random guess of each token takes"
    assert trained.gain == pytest.approx(trained.score("baseline") - trained.primary.value)
    assert trained.paired.low < trained.gain < trained.paired.high
    curve = [epoch["val/bits_per_byte"] for epoch in trained.student.training.curves]
    assert trained.student.training.epoch == curve.index(min(curve)) + 1
    assert trained.student.validation["bits_per_byte"] == pytest.approx(min(curve), rel=1e-4)


def test_a_second_epoch_and_a_second_run_need_no_teacher(place, trained):
    assert (trained.cache["computed"], trained.cache["read"]) == (48, 48), "a block looks the same in every epoch"
    assert trained.cache["bytes_per_sample"] == 32 * (16 * 4 + 2)
    again = run(place, "rerun=true", "cache.mode=require")
    assert (again.cache["computed"], again.cache["read"]) == (0, 96)
    assert all(
        torch.equal(a, b) for a, b in zip(student(place, trained).values(), student(place, again).values(), strict=True)
    )


def test_a_stopped_fit_goes_on_to_the_same_weights(place, trained, tmp_path):
    with small_run.stopped_at(17):
        run(tmp_path, "baseline=false", data=place)
    resumed = run(tmp_path, "baseline=false", data=place)
    assert resumed.student.training.resumed
    ours, theirs = student(tmp_path, resumed), student(place, trained)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@torch.no_grad()
def test_transformers_loads_the_student_by_itself(place, trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = place / "runs" / "topics.jsonl" / trained.config_hash / "student"
    net, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    kept = student(place, trained)
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items() if name in kept)
    text = "The assert statement"
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]])
    nll = -net(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None]).sum()
    assert nll / log(2) / len(text.encode()) < 8
    assert net.config.eos_token_id == tokenizer.eos_token_id


def test_a_folder_that_answers_otherwise_is_told(place, trained, tmp_path, capsys):
    assert trained.text.reloaded < 1e-5
    card = (place / "runs" / "topics.jsonl" / trained.config_hash / "README.md").read_text()
    assert "Read back by transformers its logits on two example blocks are " in card
    tokenizer = load_tokenizer(str(place / "runs" / "topics.jsonl" / trained.config_hash / "student"), "run")
    data = SimpleNamespace(info=SimpleNamespace(tokenizer=tokenizer))
    model = small_llama(0)
    assert LanguageModeling().save(model, data, tmp_path) < 1e-5 and not capsys.readouterr().err
    model.net.config.rms_norm_eps = 0.5  # the folder has it, the network does not
    assert LanguageModeling().save(model, data, tmp_path) > 1e-3
    assert "read back by transformers is not the student: logits differ by" in capsys.readouterr().err


PLAIN = """
import sys, torch
from transformers import AutoModelForCausalLM
net = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
with torch.no_grad():
    torch.save(net(torch.load(sys.argv[2], weights_only=True)).logits, sys.argv[2])
assert not any(name.partition(".")[0] in ("distillab", "lightning") for name in sys.modules)
"""


@torch.no_grad()
def test_a_process_without_distillab_reads_the_logits_that_were_measured_from_the_folder(place, trained, tmp_path):
    """Of test blocks that hold one document."""
    home = place / "runs" / "topics.jsonl" / trained.config_hash
    data = build(dict(trained.config["data"]), "data")
    data.prepare()
    blocks = data.test_blocks
    one = (blocks.documents == blocks.documents[:, :1]).all(1).nonzero().flatten()[:8]
    inputs = blocks.batch(one, 0).inputs[0]
    assert len(one) > 2
    torch.save(inputs["input_ids"], tmp_path / "tensor.pt")
    plain = [sys.executable, "-c", PLAIN, str(home / "student"), str(tmp_path / "tensor.pt")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(plain, check=True, cwd=tmp_path, env=environment, capture_output=True)
    config = trained.config["student"] | {"checkpoint": str(home / "student.safetensors")}
    student = LanguageModeling().build_model(ModelConfig.of(config, "student"), "student", data, 0).eval()
    torch.testing.assert_close(torch.load(tmp_path / "tensor.pt", weights_only=True), student.outputs(**inputs))


@pytest.mark.parametrize(
    "words, said",
    [
        (("data.length=100000",), "has .* tokens and a block 100000"),
        (("data.labelled=0.5",), "text has no labels to hide"),
        (("data.vocabulary=20",), "data.vocabulary must"),
        (("data.path=nowhere.txt",), "data.path: there is no nowhere.txt"),
        (("data.tokenizer=./nowhere",), "data.tokenizer: there is no folder nowhere"),
        (("student.mean=[0.5]",), "student.mean is for images"),
        (("student=resnet8",), "student=resnet8 is for images, and the data are text: student=llama_170k"),
        (("strategy=crd",), "linear head"),
        (("cache.top_k=300",), "cache.top_k must"),
        (("student=causal_lm", "student.path=./nowhere"), "student.path: there is no folder nowhere"),
        (("student=causal_lm",), "student.path is missing: student.path=… names a folder"),
        (("student=causal_lm", "student.path="), "student.path: an empty name is no folder"),
        (("student=causal_lm", "student.path=/dev/null"), "student.path: /dev/null is no folder"),
        (("data.tokenizer=/dev/null",), "data.tokenizer: /dev/null is no folder"),
        (("cache.temperatures=[2]",), r"strategy.kd reads the teacher at temperature 1.*cache.temperatures=\[2,1\]"),
        (("cache.draws=8", "cache.top_k=null", "strategy.kd.temperature=4"), "strategy.kd is another"),
        (("strategy=reverse_kl", "cache.tail=both"), "strategy.reverse_kl .*: cache.tail=bucket"),
        (("strategy=none", "data.sampler=balanced"), "nothing to balance|data.sampler"),
    ],
)
def test_bad_input_is_one_line_and_comes_before_any_training(place, words, said, monkeypatch):
    monkeypatch.setattr(steps, "pretrain", lambda *_: pytest.fail("it trains"))
    with pytest.raises(UserError, match=said) as caught:
        run(place, *words, base=())
    assert "\n" not in str(caught.value)


def test_a_student_may_start_from_some_of_its_teachers_layers(place, trained):
    folder = place / "runs" / "topics.jsonl" / trained.config_hash / "student"
    words = (
        "strategy=none",
        "teacher=causal_lm",
        f"teacher.path={folder}",
        "student.init=teacher",
        "student.layers=[1]",
    )
    small = ("data=text", "logger=none", "data.length=32", "data.samples=8", "recipe.epochs=1", "recipe.lr=0")
    found = small_run.run(place, f"data.path={place}/topics.jsonl", *words, base=small)
    assert found.student.name == "student layers 1"
    ours, theirs = student(place, found), student(place, trained)
    assert torch.equal(ours["model.layers.0.mlp.up_proj.weight"], theirs["model.layers.1.mlp.up_proj.weight"])
    assert torch.equal(ours["model.embed_tokens.weight"], theirs["model.embed_tokens.weight"])
    assert not any(".layers.1." in name for name in ours)
    with pytest.raises(UserError, match=r"student\.width=96: .* leave student\.width out"):
        small_run.run(place, f"data.path={place}/topics.jsonl", *words, "student.width=96", base=small)
    for words, said in (
        (("student.init=teacher", "student.layers=[0]"), "needs a teacher that is trained already"),
        (("student.init=teacher",), r"student\.layers=\[0,2,4\]"),
    ):
        with pytest.raises(UserError, match=said):
            run(place, *words, base=("strategy=kd",))
