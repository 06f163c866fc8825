"""What a teacher writes: against transformers' own loop, and the same whatever broke the run."""

import errno
import inspect
import json
import resource
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from generate import main
from helpers import small_teacher

from distillab.core.errors import UserError
from distillab.core.output import quietly
from distillab.core.stopping import Stopped
from distillab.data.text.synthetic import shards, write
from distillab.data.text.synthetic.config import Sampling, parse
from distillab.data.text.synthetic.kept import kept_texts
from distillab.data.text.synthetic.progress import Progress
from distillab.data.text.synthetic.sampling import Limits, draw, prove, sample
from distillab.data.text.synthetic.teacher import LocalTeacher, load

PROMPTS = ["w10 w11 w12 w13 w14", "w20", "w30 w31", "w40 w41 w42", "w50 w51 w52 w53", "w9 w8", "w7"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return small_teacher.saved(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def teacher(place):
    return load(parse([f"teacher={place}", "out=o", "file=f", "device=cpu"]))


@pytest.fixture
def wanted(place, tmp_path):
    """The config of a root of 7 rows in 3 files; further words change it."""
    (tmp_path / "prompts.txt").write_text("\n\n".join(PROMPTS) + "\n")
    words = [f"teacher={place}", f"file={tmp_path / 'prompts.txt'}", f"out={tmp_path / 'root'}", "shard_rows=3"]
    words += ["batch_size=2", "device=cpu", "sampling.max_new_tokens=12", "sampling.top_p=0.9", "filters.min_words=0"]
    return lambda *more: parse([*words, *more])


@pytest.fixture
def writes(teacher):
    """Write a root with the teacher that is in memory."""

    def run(config, stop_after=None):
        writer = LocalTeacher(teacher.net, teacher.tokenizer, config)
        writer.rows, of_old = 0, writer.write

        def counted(prompts, report):
            def told(tokens, rows):
                writer.rows += rows
                report(tokens, rows)
                if stop_after is not None and writer.rows >= stop_after:
                    raise Stopped("stopped")

            return of_old(prompts, told)

        writer.write = counted
        with quietly(True):
            write.generate(config, writer)
        return writer.rows

    return run


def files(root):
    return {path.name: path.read_bytes() for path in (root / "data").iterdir()}


def table(root):
    import pyarrow.parquet as pq

    return pq.read_table(sorted((root / "data").glob("*.parquet"))).to_pylist()


def drawn(teacher, size=7, **how):
    cached = how.pop("use_cache", True)
    ids, limits = [teacher.encode(prompt) for prompt in PROMPTS], replace(teacher.limits, use_cache=cached)
    sampling, found = Sampling(max_new_tokens=20, **how), []
    for start in range(0, len(ids), size):
        numbers = range(start, min(start + size, len(ids)))
        found += sample(teacher.net, ids[start : start + size], numbers, (sampling, limits))
    return found


def test_a_greedy_text_is_that_of_transformers(teacher):
    for prompt, found in zip(PROMPTS, drawn(teacher, temperature=0), strict=True):
        ids = torch.tensor([teacher.encode(prompt)])
        banned = {"suppress_tokens": list(range(small_teacher.WORDS, 64))}
        how = {"do_sample": False, "max_new_tokens": 20, "eos_token_id": 1, "pad_token_id": 1} | banned
        assert (
            found.ids
            == teacher.net.generate(ids, attention_mask=torch.ones_like(ids), **how)[0, ids.shape[1] :].tolist()
        )


def test_a_text_does_not_depend_on_its_batch_or_on_the_cache(teacher):
    whole = drawn(teacher, temperature=0.9, top_p=0.9, seed=3)
    assert 0 < sum(one.ended for one in whole) < len(whole)  # some leave the batch while others go on
    for other in ({"size": 1}, {"size": 3}, {"use_cache": False}):
        found = drawn(teacher, temperature=0.9, top_p=0.9, seed=3, **other)
        assert [one.ids for one in found] == [one.ids for one in whole]
        assert [one.mean_logprob for one in found] == pytest.approx([one.mean_logprob for one in whole], abs=1e-5)
    other = drawn(teacher, temperature=0.9, top_p=0.9, seed=4)
    assert all(one.ids != was.ids for one, was in zip(other, whole, strict=True))


def test_positions_count_from_the_first_token_and_not_from_the_padding(teacher):
    from transformers import GPT2Config, GPT2LMHeadModel

    size = {"n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        absolute = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=48, initializer_range=0.3, **size)).eval()
    other = SimpleNamespace(net=absolute, encode=teacher.encode, limits=teacher.limits)
    whole = drawn(other, temperature=0.9)
    assert [one.ids for one in drawn(other, size=1, temperature=0.9)] == [one.ids for one in whole]


def test_the_log_probability_is_that_of_one_pass_over_the_text(teacher):
    for prompt, found in zip(PROMPTS, drawn(teacher, temperature=0.5, top_p=0.7), strict=True):
        given = teacher.encode(prompt)
        with torch.no_grad():
            logits = teacher.net(torch.tensor([given + found.ids])).logits[
                0, len(given) - 1 : -1, : small_teacher.WORDS
            ]
        mean = -torch.nn.functional.cross_entropy(logits, torch.tensor(found.ids))
        assert found.mean_logprob == pytest.approx(mean.item(), abs=1e-5)


@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (0.7, 0.8), (2.0, 0.6)])
def test_tokens_are_drawn_from_the_distribution_that_transformers_has(temperature, top_p):
    from scipy.stats import chisquare
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    logits, count = torch.randn(1, 12, generator=torch.Generator().manual_seed(0)).double() * 2, 20_000
    warped = TopPLogitsWarper(top_p)(None, TemperatureLogitsWarper(temperature)(None, logits))
    wanted = warped.softmax(-1)[0]
    tokens = draw(logits.expand(count, -1), Sampling(temperature=temperature, top_p=top_p), 0, torch.arange(count))
    seen, there = torch.bincount(tokens, minlength=12), wanted > 0
    assert seen[~there].sum() == 0
    assert chisquare(seen[there], wanted[there] * count).pvalue > 1e-3


def test_draws_of_steps_and_rows_are_independent():
    flat, rows = torch.zeros(4000, 2, dtype=torch.double), torch.arange(4000)
    first, second = (draw(flat, Sampling(), step, rows).double() for step in (0, 1))
    assert abs(torch.corrcoef(torch.stack([first, second, first.roll(1)]))[0, 1:]).max() < 0.06


def test_a_network_that_minds_padding_or_whose_cache_does_not_fit_is_refused(teacher):
    from transformers import LlamaForCausalLM

    class Blind(LlamaForCausalLM):
        def forward(self, input_ids, attention_mask=None, **cached):
            return super().forward(input_ids, **cached)

    class Forgetful(LlamaForCausalLM):
        def forward(self, input_ids, attention_mask=None, **cached):
            cache = cached.get("cache", cached.get("past_key_values"))  # its name before transformers 5.24
            if cache and cache.get_seq_length() > 3:
                cache.crop(-1)
                attention_mask = attention_mask[:, 1:]
            return super().forward(input_ids, attention_mask, **cached)

    for one in (Blind, Forgetful):
        one.forward.__signature__ = inspect.signature(LlamaForCausalLM.forward)

    blind, forgetful = (kind(teacher.net.config).eval() for kind in (Blind, Forgetful))
    for other in (blind, forgetful):
        other.load_state_dict(teacher.net.state_dict())
    nothing = small_teacher.network()
    torch.nn.init.constant_(nothing.lm_head.weight, torch.nan)
    limits = teacher.limits
    prove(teacher.net, limits, batch_size=32)
    with pytest.raises(UserError, match=r"gives logits that are no numbers; set dtype=float32"):
        prove(nothing, limits, batch_size=2)
    with pytest.raises(UserError, match=r"depend on the padding of a batch; set batch_size=1"):
        prove(blind, limits, batch_size=2)
    prove(blind, limits, batch_size=1)
    with pytest.raises(UserError, match=r"cache does not give its logits; set use_cache=false"):
        prove(forgetful, limits, batch_size=2)
    prove(forgetful, replace(limits, use_cache=False), batch_size=2)


def test_a_token_beyond_the_tokenizer_is_never_drawn(teacher):
    ids, limits = [[0]] * 50, Limits((), 8)
    found = sample(teacher.net, ids, range(50), (Sampling(max_new_tokens=5, temperature=5), limits))
    assert {token for one in found for token in one.ids} <= set(range(8))


def test_a_stopped_command_goes_on_and_writes_the_same_bytes(wanted, writes, tmp_path):
    assert writes(wanted()) == 7
    whole = files(tmp_path / "root")
    other = wanted(f"out={tmp_path / 'other'}")
    with pytest.raises(Stopped):
        writes(other, stop_after=5)  # in the second file
    assert [*files(tmp_path / "other")] == ["00000.parquet"]
    with pytest.raises(UserError, match=r"half-written \(1 of 3 files\); the command that wrote it goes on"):
        kept_texts(tmp_path / "other")
    assert writes(other) == 4
    assert files(tmp_path / "other") == whole
    assert writes(other) == 0  # nothing is left to write
    damaged = tmp_path / "other" / "data" / "00001.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert writes(other) == 3 and files(tmp_path / "other") == whole


@pytest.mark.parametrize("before", [[], ["filters.min_words=10"]])
def test_a_stop_among_the_verdicts_is_mended(wanted, writes, tmp_path, monkeypatch, before):
    real, calls = shards.Root.judge, []

    def stopped(root, rows, verdicts):
        calls.append(rows)
        if len(calls) == 2:
            raise Stopped("stopped")
        real(root, rows, verdicts)

    if before:  # verdicts of other filters
        writes(wanted(*before))
    with monkeypatch.context() as patch:
        patch.setattr(shards.Root, "judge", stopped)
        with pytest.raises(Stopped):
            writes(wanted())
    with pytest.raises(UserError, match="without the filters' verdicts"):
        kept_texts(tmp_path / "root")
    assert writes(wanted()) == 0
    assert all(row["kept"] for row in table(tmp_path / "root"))


def test_more_rows_are_added_to_those_there_are(wanted, writes, tmp_path):
    writes(wanted("rows=4"))
    assert writes(wanted("rows=10")) == 7  # the second file is written again with all of its rows
    writes(wanted("rows=10", f"out={tmp_path / 'other'}"))
    assert files(tmp_path / "root") == files(tmp_path / "other")
    rows = table(tmp_path / "root")
    assert [row["row"] for row in rows] == [*range(10)]
    assert rows[9]["prompt"] == rows[2]["prompt"] and rows[9]["text"] != rows[2]["text"]
    with pytest.raises(UserError, match=r"holds 10 rows, asked for 9; set rows=10 or more"):
        writes(wanted("rows=9"))


@pytest.mark.parametrize(
    "word, said",
    [
        ("sampling.temperature=0.5", "sampling.temperature=1.0, asked for 0.5; go on with sampling.temperature=1.0"),
        ("sampling.seed=1", "sampling.seed=0, asked for 1; go on with sampling.seed=0"),
        ("shard_rows=4", "shard_rows=3, asked for 4"),
        ("chat=true", "chat=false, asked for true"),
        ("source=topics", "source=prompts, asked for topics"),
    ],
)
def test_another_sampling_is_not_mixed_in(wanted, writes, tmp_path, word, said):
    writes(wanted("rows=1"))
    before = files(tmp_path / "root")
    with pytest.raises(UserError) as error:
        writes(wanted("rows=1", word))
    assert said in str(error.value) and "out=…" in str(error.value) and "\n" not in str(error.value)
    assert files(tmp_path / "root") == before


def test_other_weights_and_other_prompts_are_not_mixed_in(wanted, writes, tmp_path, teacher):
    writes(wanted("rows=1"))
    other = LocalTeacher(small_teacher.network(1), teacher.tokenizer, wanted("rows=1"))
    with pytest.raises(UserError, match=r"text of other weights in teacher=.* asked for .*out=…"):
        write.generate(wanted("rows=1"), other)
    (tmp_path / "prompts.txt").write_text("w10")
    with pytest.raises(UserError, match=r"text from other prompts .*file=… and template=…"):
        writes(wanted("rows=1"))


def test_a_root_without_text_takes_any_sampling(wanted, writes, tmp_path):
    with pytest.raises(Stopped):
        writes(wanted(), stop_after=2)
    assert writes(wanted("sampling.temperature=0.5")) == 7
    assert {row["temperature"] for row in table(tmp_path / "root")} == {0.5}


def test_a_folder_with_other_files_is_left_alone(wanted, writes, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "README.md").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files \(README.md\)"):
        writes(wanted())
    assert (tmp_path / "root" / "README.md").read_text() == "mine"


def test_a_full_disk_is_one_line_and_leaves_no_part_of_a_file(wanted, writes, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    writes(wanted("rows=3"))
    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full)
        with pytest.raises(UserError, match=r"cannot write to .*root \(No space left on device\).*out=…"):
            writes(wanted())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))  # a real refusal of the system, in pyarrow's own words
    try:
        with pytest.raises(UserError, match=r"cannot write to .*root .*out=…"):
            writes(wanted())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [*files(tmp_path / "root")] == ["00000.parquet"]
    writes(wanted())
    assert len([*kept_texts(tmp_path / "root")]) == 7


def test_other_filters_judge_again_and_write_nothing(wanted, writes, tmp_path):
    writes(wanted())
    texts = [row["text"] for row in table(tmp_path / "root")]
    assert [*kept_texts(tmp_path / "root")] == texts
    assert writes(wanted("filters.min_words=10")) == 0
    rows = table(tmp_path / "root")
    long = [text for text in texts if len(text.split()) >= 10]
    assert [row["text"] for row in rows] == texts and 0 < len(long) < 7
    assert [*kept_texts(tmp_path / "root")] == long
    assert all(row["rejected_by"] == ([] if row["kept"] else ["length"]) for row in rows)
    assert f"| length | {7 - len(long)} | {(7 - len(long)) / 7:.1%} |" in (tmp_path / "root" / "README.md").read_text()
    writes(wanted("filters.min_words=1000"))
    with pytest.raises(UserError, match="holds 7 texts, and its filters reject all"):
        kept_texts(tmp_path / "root")


def test_the_root_is_a_data_set_with_provenance(wanted, writes, tmp_path, teacher, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from datasets import load_dataset

    writes(wanted("price_per_hour=36000000"))
    how = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    rows = load_dataset("parquet", data_files=str(tmp_path / "root" / "data" / "*.parquet"), **how)
    assert load_dataset(str(tmp_path / "root"), **how).to_list() == rows.to_list()  # by the card's head
    first = rows[0]
    alone = sample(teacher.net, [teacher.encode(PROMPTS[0])], [0], (wanted().sampling, teacher.limits))[0]
    assert first["text"] == teacher.tokenizer.decode(alone.ids, skip_special_tokens=True)
    assert (first["tokens"], first["prompt_tokens"], first["prompt"]) == (len(alone.ids), 5, PROMPTS[0])
    assert first["finish"] == ("stop" if alone.ended else "length")
    assert first["perplexity"] == pytest.approx(torch.tensor(-alone.mean_logprob).exp().item(), rel=1e-4)
    assert (first["teacher_hash"], first["temperature"], first["top_p"], first["seed"]) == (teacher.hash, 1.0, 0.9, 0)
    assert first["kept"] is True and first["rejected_by"] == [] and first["duplicate_of"] is None
    card = (tmp_path / "root" / "README.md").read_text()
    assert f"| tokens written | {sum(rows['tokens'])} |" in card and teacher.hash in card
    assert " s of compute for " in card and "python scripts/generate.py teacher=" in card
    assert sum(one["tokens"] for one in json.loads((tmp_path / "root/cost.json").read_text()).values()) == sum(
        rows["tokens"]
    )


def test_the_sources(wanted, writes, tmp_path, teacher):
    lines = [{"text": " ".join(f"w{number}" for number in range(start, start + 8))} for start in (10, 30)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "topics.txt").write_text("w33\nw44\n")
    asked = {
        "documents": [f"file={tmp_path / 'docs.jsonl'}", "prefix_tokens=3"],
        "topics": [f"file={tmp_path / 'topics.txt'}", "template=w7 {topic} w8"],
        "bos": ["rows=2"],
        "prompts": ["chat=true", "rows=2"],
    }
    prompts = {}
    for source, words in asked.items():
        writes(wanted(f"source={source}", f"out={tmp_path / source}", *words))
        rows = table(tmp_path / source)
        prompts[source] = [(row["prompt"], row["prompt_tokens"]) for row in rows]
        assert all(row["text"].startswith(row["prompt"]) for row in rows) == (source in ("documents", "bos"))
    assert prompts["documents"] == [("w10 w11 w12", 3), ("w30 w31 w32", 3)]
    assert prompts["topics"] == [("w7 w33 w8", 3), ("w7 w44 w8", 3)]
    assert prompts["bos"] == [("", 1), ("", 1)]
    assert prompts["prompts"] == [(PROMPTS[0], 8), (PROMPTS[1], 4)]  # <s> w5 … w6


@pytest.mark.parametrize(
    "words, said",
    [
        (["file=none.txt"], "there is no file none.txt; name one with file=…"),
        (["file=empty.txt"], "empty.txt is empty: it needs one prompt or more"),
        (["file=blank.jsonl"], 'the "prompt" in line 2 of blank.jsonl is empty; fill it or remove the line'),
        (["file=other.jsonl"], 'line 1 of other.jsonl needs a "prompt" that is text'),
        (["file=broken.jsonl"], "line 1 of broken.jsonl is no JSON"),
        (["file=latin.txt"], "latin.txt is not UTF-8 (byte 3); convert it"),
        (["file=deep.jsonl"], "line 1 of deep.jsonl is no JSON"),
        (["file=half.jsonl"], 'the "prompt" in line 1 of half.jsonl holds half a character'),
        (
            ["file=long.txt"],
            "prompt 2 has 40 tokens, and with sampling.max_new_tokens=12 that is more than the 48 positions",
        ),
        (["file=long.txt"], "set sampling.max_new_tokens=8"),
        (["file=longer.txt"], "shorten the prompt"),
        (["filters.held_out=none.txt"], "there is no file none.txt; name one with filters.held_out=…"),
        (["teacher=./none"], "teacher: there is no folder none; teacher=… names one, or a model on the hub"),
        (["teacher=."], "teacher=. cannot be loaded"),
        (["sampling.temprature=1"], 'sampling has no "temprature"; did you mean "temperature"?'),
        (["sampling.top_p=0"], "sampling.top_p must be a number above 0 up to 1, got 0"),
        (["sampling=3"], "sampling must be a mapping, got 3"),
        (["rows"], 'cannot read "rows"; write key=value'),
        (["rows=0"], "rows must be a whole number from 1, or null, got 0"),
        (["source=bos"], "source=bos has no prompts to count; set rows=…"),
        (["source=topics", "template=mine"], 'template must contain {topic}, got "mine"'),
        (["source=documents", "chat=true"], "set chat=false"),
        (["filters.min_words=9", "filters.max_words=2"], "filters.min_words=9 is above filters.max_words=2"),
        (["teacher=endpoint"], "needs the name of a model; set endpoint.model=…"),
        (["file=null"], "source=prompts needs a file; set file=…"),
    ],
)
def test_bad_input_is_one_line(place, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    contents = {"good.txt": "w3", "empty.txt": "\n \n", "blank.jsonl": '{"prompt": "w3"}\n{"prompt": " "}\n'}
    contents |= {"other.jsonl": '{"text": "w3"}\n', "broken.jsonl": "w3\n", "long.txt": "w3\n" + "w4 " * 40}
    contents |= {"deep.jsonl": "[" * 100_000, "half.jsonl": '{"prompt": "\\ud83d"}'}
    for name, text in (contents | {"longer.txt": "w4 " * 49}).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    base = [f"teacher={place}", "out=root", "file=good.txt", "sampling.max_new_tokens=12", "device=cpu"]
    assert main([*base, *words]) == 1
    told = capsys.readouterr().err
    assert said in told and told.startswith("error: ") and told.count("\n") == 1
    assert not list(tmp_path.glob("root/*.parquet")) and not (tmp_path / "root" / "README.md").exists()


def test_the_command_writes_and_says_what_it_kept(place, tmp_path, capsys):
    words = [
        f"teacher={place}",
        f"out={tmp_path / 'root'}",
        "source=bos",
        "rows=2",
        "device=cpu",
        "sampling.temperature=0",
    ]
    assert main([*words, "sampling.max_new_tokens=9", "filters.max_repetition=null", "filters.min_words=0"]) == 0
    said = capsys.readouterr().out
    assert "2/2 rows" in said and "tokens/s" in said and "1/2 texts kept (rejected: duplicate 50.0%)" in said
    assert main(["--help"]) == 0
    assert "sampling.top_p=1.0" in capsys.readouterr().out


def test_a_package_that_is_not_installed_is_told(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    words = [f"teacher={place}", f"out={tmp_path / 'root'}", "source=bos", "rows=1", "device=cpu"]
    assert main([*words, "sampling.max_new_tokens=2"]) == 1
    assert capsys.readouterr().err == 'error: datasketch is not installed: pip install "distillab[language]"\n'


def test_an_absent_or_damaged_root_is_told(tmp_path, wanted, writes):
    with pytest.raises(UserError, match=r"there is no synthetic text in .*none; write it: python scripts/generate.py"):
        kept_texts(tmp_path / "none")
    writes(wanted())
    path = tmp_path / "root" / "data" / "00001.parquet"
    whole = bytearray(path.read_bytes())
    place = whole.index(b"\x28\xb5\x2f\xfd", len(whole) // 4)  # a page of zstd; the file's end stays whole
    whole[place + 8] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"00001.parquet is damaged or gone; delete it"):
        shards.read_table(path, [one.name for one in shards._schema()])
    (tmp_path / "root" / "origin.json").write_text("{")
    with pytest.raises(UserError, match=r"origin.json cannot be read"):
        kept_texts(tmp_path / "root")


def test_progress_tells_rows_speed_time_left_and_cost(capsys):
    now = [0.0]
    progress = Progress(100, 40, price_per_hour=2, clock=lambda: now[0])
    for _ in range(2):
        now[0] += 500  # of something else
        with progress.writing():
            for _ in range(10):
                now[0] += 90
                progress.report(450, 1)
    assert capsys.readouterr().out.count("\n") == 20  # the lines are more than 10 s apart
    assert progress.line() == "60/100 rows · 5 tokens/s · 60 min left · 30 min of compute for 1.00"
