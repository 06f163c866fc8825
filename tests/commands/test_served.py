"""A teacher that is served elsewhere: requests, the scripts that are printed, imports, and training from them."""

import json
import re
from pathlib import Path
from textwrap import indent

import lightning as L
import pytest
import torch
from helpers import small_run
from helpers.served_teacher import as_sglang, serving
from helpers.small_text import LENGTH, TOKENS, sentences, tokenizer_folder
from helpers.texts import tiny_llama

from distillab.commands import steps
from distillab.commands.cache import cache
from distillab.commands.composition import compose
from distillab.commands.invocation import parse
from distillab.commands.served_words import SGLANG, VLLM
from distillab.core.errors import UserError
from distillab.core.instantiate import build
from distillab.core.timer import Timer
from distillab.data.batch import IGNORED
from distillab.reporting.cost_words import words as words_of_cost

ADDRESSES = {"vllm": "http://localhost:8000", "sglang": "http://localhost:30000"}
WHOLE = ("cache.top_k=null", "cache.dtype=float32")
FEW = ("cache.top_k=8", "cache.dtype=float32")


class Place:
    """A folder with text, a teacher, and the words of every command."""

    def __init__(self, folder):
        self.folder, self.net = folder, tiny_llama(TOKENS, seed=3)
        self.teacher = tokenizer_folder(folder / "teacher")
        self.net.save_pretrained(self.teacher)
        (folder / "text.jsonl").write_text("\n".join(json.dumps({"text": one}) for one in sentences(300)))
        self.words = ["data=text", f"data.path={folder}/text.jsonl", f"data.length={LENGTH}", "data.overlap=1.0"]
        self.words += [f"data.tokenizer={self.teacher}", "data.samples=24", "strategy=kd", "logger=none"]
        self.words += ["student.width=16", "student.hidden=24", "recipe.epochs=1", "recipe.batch_size=8"]
        self.words += ["baseline=false", "trainer=cpu"]

    def cache(self, action, *words, store="store"):
        cache([action, *self.words, f"paths.store={self.folder}/{store}", *words])

    def requests(self, *words):
        """The lines that a server is asked."""
        out = self.folder / "requests.jsonl"
        self.cache("requests", f"out={out}", *words)
        return [json.loads(line) for line in out.read_text().splitlines()]

    def scored(self, top=8, name="scores.jsonl"):
        """A file of what SGLang would answer."""
        rows = [{**row, **as_sglang(self.net, row["token_ids"], top)} for row in self.requests()]
        return self.write(rows, name)

    def write(self, rows, name="other.jsonl"):
        file = self.folder / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    def load(self, scores, *words, store="store", teacher="tiny"):
        self.cache("import", "scheme=imported", f"scheme.teacher={teacher}", f"scores={scores}", *words, store=store)

    def trained(self, *words, store="store"):
        """The weights of a student behind its fit, which nothing judges."""
        config = parse(small_run.composed(self.folder, f"paths.store={self.folder}/{store}", *words, base=self.words))
        made = steps.prepare(config, steps.check(config), Timer())
        steps.ready(made)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        quiet |= {"enable_model_summary": False, "use_distributed_sampler": False, "num_sanity_val_steps": 0}
        engine = L.Trainer(max_epochs=1, accelerator="cpu", limit_val_batches=0, **quiet)
        engine.fit(made.module, datamodule=made.data)
        return made.student.state_dict()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def scores(place):
    return place.scored()


def close(one, other, most):
    return all(torch.allclose(one[name], other[name], rtol=0, atol=most) for name in one)


@pytest.fixture(scope="module")
def live(place):
    """The students of the teacher itself, live and through the kit's own cache of k tokens."""
    own = ("teacher=causal_lm", f"teacher.path={place.teacher}")
    whole = place.trained(*own, "cache.mode=never", "cache.top_k=null")
    return {"whole": whole, "few": place.trained(*own, *FEW)}


def test_the_printed_scripts_and_an_import_train_as_the_live_teacher_does(place, live, monkeypatch, capsys):
    monkeypatch.chdir(place.folder)
    place.requests(*WHOLE)
    scripts = re.split(r"\nWith .*:\n\n", capsys.readouterr().out.partition("\nthen python")[0])[1:]
    files = {}
    for (server, address), script in zip(ADDRESSES.items(), scripts, strict=True):
        with serving(place.net) as local:
            exec(script.replace(address, local), {})
        for words in (WHOLE, FEW):
            place.load("scores.jsonl", *words, store=server)
        root = place.folder / server / "cache"
        files[server] = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*.shard")}
    assert len(files["vllm"]) == 2 and files["vllm"] == files["sglang"]
    imported = ("scheme=imported", "scheme.teacher=tiny")
    assert close(place.trained(*imported, *WHOLE, store="vllm"), live["whole"], 1e-5)
    assert close(place.trained(*imported, *FEW, store="vllm"), live["few"], 1e-5)
    assert not close(live["whole"], live["few"], 1e-4), "k tokens are not the whole teacher"


def test_a_run_says_what_is_not_known_of_a_served_teacher(place, scores, unmeasured):
    place.load(scores, "cache.top_k=8")
    words = ("scheme=imported", "scheme.teacher=tiny", "cache.top_k=8", "cache.tail=renormalise", "baseline=true")
    result = small_run.run(place.folder, *words, base=place.words)
    assert result.teacher is None and result.cache["computed"] == 0 and result.cache["read"] == 24
    assert [one.parent for one in result.lineage] == ["tiny"]
    told = " ".join(words_of_cost(result.cost, lambda gain, digits: f"{gain:.{digits}f}"))
    assert "24 teacher outputs came from the cache. " in told and "the server took to score the text is unknown" in told


def test_requests_are_the_learned_tokens_each_once(place):
    rows = place.requests()
    assert rows == place.requests(), "the same words, the same requests"
    assert rows == place.requests("data.validation_blocks=1"), "what validates is not asked"
    assert len({row["id"] for row in rows}) == len(rows)
    data = build(compose(place.words).data, "data")
    data.prepare()
    blocks, seen = data.training_blocks, torch.zeros(24, LENGTH, dtype=torch.long)
    for row in rows:
        _, block, start = row["id"].split("-")
        for place_, token in enumerate(row["token_ids"][1:], int(start)):
            label = blocks.labels[int(block), place_]
            assert label in (token, IGNORED)
            assert blocks.documents[int(block), int(start)] == blocks.documents[int(block), place_]
            seen[int(block), place_] += 1
    assert (seen[blocks.labels != IGNORED] == 1).all() and seen.max() == 1


def test_half_a_file_is_filed_and_the_rest_later(place, scores, capsys):
    lines = [json.loads(line) for line in scores.read_text().splitlines()]
    half = place.write(lines[: len(lines) // 2])
    with pytest.raises(
        UserError, match=rf"requests have no scores yet, the first of them {lines[len(lines) // 2]['id']}"
    ):
        place.load(half, "cache.top_k=8", store="halves")
    words = ("scheme=imported", "scheme.teacher=tiny", "cache.top_k=8", "cache.dtype=float16")
    with pytest.raises(UserError, match=r"the store has the scores of tiny for \d+ of the 24 blocks"):
        place.trained(*words, store="halves")
    capsys.readouterr()
    place.load(scores, "cache.top_k=8", store="halves")
    assert "requests filed in" in capsys.readouterr().out
    place.load(scores, "cache.top_k=8", store="halves")
    assert "0 requests filed" in capsys.readouterr().out, "it is filed already"
    changed = [{**row, **as_sglang(tiny_llama(TOKENS, seed=4), row["token_ids"], 8)} for row in lines[:3]]
    with pytest.raises(UserError, match=r"other scores of this request are filed already.*scheme\.teacher"):
        place.load(place.write(changed), "cache.top_k=8", store="halves")


@pytest.mark.parametrize(
    "words, said",
    [
        (
            ("data.length=16",),
            "none of this text's requests: the text, its split, the tokenizer or the block length differ",
        ),
        (("cache.top_k=16",), r"has 8 tokens and the cache keeps 16: cache\.top_k=8 or fewer"),
        (("scores=absent.jsonl",), "there is no file absent.jsonl"),
        (("cache.draws=4",), "draws none: cache.draws=null"),
        (("strategy.kd.temperature=2",), "temperature 1, and 2 is asked for"),
        (("cache.limit_gb=1e-9",), "find no room"),
    ],
)
def test_an_import_that_does_not_fit_is_one_line(words, said, place, scores):
    top = () if "cache.top_k=16" in words or "cache.draws=4" in words else ("cache.top_k=8",)
    extra = ("cache.top_k=null",) if "cache.draws=4" in words else top
    with pytest.raises(UserError, match=said) as caught:
        place.load(scores, *extra, *words, store="wrong")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words, said",
    [
        (("strategy=hidden",), "can only give logits"),
        (("strategy=dist",), "strategy.dist reads the teacher at all positions"),
        (("data.on_policy=0.5",), "no teacher that could read what the student writes"),
        (("teacher.dtype=float16",), "teacher.dtype=null"),
        (("scheme.teacher=another",), "the store has the scores of another for 0 of the 24 blocks"),
    ],
)
def test_a_run_that_the_scores_cannot_teach_is_refused_before_it_trains(words, said, place):
    with pytest.raises(UserError, match=said):
        place.trained("scheme=imported", "scheme.teacher=tiny", "cache.top_k=8", *words)


def test_an_import_names_its_teacher(place, scores):
    with pytest.raises(UserError, match=r"scheme=imported scheme\.teacher=my_teacher"):
        place.cache("import", f"scores={scores}", "cache.top_k=8")


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "check, export, import, requests"),
        (("imports",), 'did you mean "import"'),
        (("import", "-m"), "takes the words"),
    ],
)
def test_words_of_the_command(words, said):
    with pytest.raises(UserError, match=said):
        cache(words)


def test_the_page_shows_the_scripts_that_are_printed():
    page = (Path(__file__).parents[2] / "docs" / "served_teachers.md").read_text()
    for script in (VLLM, SGLANG):
        shown = indent(script.replace("TOP", "64").replace("REQUESTS", "requests.jsonl"), "    ")
        assert shown in page
