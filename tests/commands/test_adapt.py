"""Adapting a tiny language model, whole: what is learned, kept, written, read back; one process imports peft once."""

import json
import random

import pytest
import torch
from helpers import small_run

from distillab.commands import adapt as command
from distillab.core.errors import UserError

pytest.importorskip("peft")

WORDS = {
    "old": [
        "the",
        "law",
        "of",
        "the",
        "union",
        "is",
        "made",
        "by",
        "the",
        "people",
        "and",
        "for",
        "the",
        "people",
        "of",
        "this",
        "land",
    ]
}
WORDS["new"] = [
    "thou",
    "shalt",
    "hearken",
    "unto",
    "him",
    "and",
    "he",
    "smote",
    "them",
    "with",
    "fire",
    "from",
    "heaven",
]
WIDTH, HIDDEN, LAYERS, RANK = 32, 48, 2, 4


def texts(kind, documents=14, length=120):
    draw = random.Random(kind)
    return [" ".join(draw.choices(WORDS[kind], k=length)) for _ in range(documents)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model that was trained on the old text, and both texts as files."""
    from distillab.data.text.blocks import pack, tokenise
    from distillab.data.text.documents import Document
    from distillab.data.text.tokenizer import train_tokenizer
    from distillab.export.language_model import save_language_model
    from distillab.models.causal_lm import CausalLM, llama

    folder = tmp_path_factory.mktemp("adapt")
    for kind in WORDS:
        rows = (json.dumps({"text": text}) for text in texts(kind))
        (folder / f"{kind}.jsonl").write_text("\n".join(rows))
    tokenizer = train_tokenizer([*texts("old"), *texts("new")], 280)
    torch.manual_seed(0)
    net = llama(len(tokenizer), 16, width=WIDTH, layers=LAYERS, heads=2, hidden=HIDDEN)
    blocks = pack(tokenise([Document(text) for text in texts("old")], tokenizer), 16)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(60):
        logits = net(blocks.ids).logits.flatten(0, 1)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, blocks.labels.flatten(), ignore_index=-100).backward()
        optimizer.step()
    save_language_model(CausalLM(net, len(tokenizer), 16), tokenizer, folder / "student")
    return folder


def run(place, *words, runs="runs"):
    fixed = (
        f"student={place}/student",
        "data=text",
        f"data.path={place}/new.jsonl",
        "data.length=16",
        "data.overlap=1",
    )
    more = ("old=text", f"old.path={place}/old.jsonl", "old.overlap=1", f"lora.rank={RANK}", "recipe.epochs=3")
    paths = (f"paths.runs={place}/{runs}", f"paths.store={place}/store", "trainer.progress_bar=false")
    return command.adapt([*fixed, *more, *paths, "recipe.batch_size=16", "trainer.accelerator=cpu", *words])


@pytest.fixture(scope="module")
def found(place):
    return run(place, "anchor=3")


def test_every_way_learns_the_domain_and_the_anchor_keeps_more_of_the_old_text(found):
    base, lora, anchored, full = found.ways
    assert [one.name for one in found.ways[1:]] == ["LoRA, rank 4", "LoRA, rank 4 + anchor 3", "full fine-tuning"]
    assert base.new.change is None and base.new.bits_per_byte > 2 * base.old.bits_per_byte, "it knew the old text alone"
    for way in (lora, anchored, full):
        assert way.new.change == pytest.approx(way.new.bits_per_byte - base.new.bits_per_byte)
        assert way.new.change < way.new.high < 0 and way.new.low < way.new.change
    assert lora.old.change > 0.1 > anchored.old.change / lora.old.change - 0.9, "it forgets"
    assert anchored.old.change < 0.9 * lora.old.change


def test_the_whole_model_is_anchored_too(place, found):
    _, plain, anchored = run(place, "lora=null", "anchor=3", runs="whole").ways
    assert (plain.name, anchored.name) == ("full fine-tuning", "full fine-tuning + anchor 3")
    assert plain.new == found.ways[3].new, "the same fit"
    assert anchored.old.change < 0.9 * plain.old.change and anchored.new.change < 0


def test_adapters_are_trained_alone_in_all_linear_layers_of_the_blocks(found):
    attention, feed_forward = 4 * (WIDTH + WIDTH), 3 * (WIDTH + HIDDEN)
    assert found.ways[1].trained == found.ways[2].trained == LAYERS * RANK * (attention + feed_forward)
    vocabulary = 280
    whole = vocabulary * WIDTH + LAYERS * (4 * WIDTH**2 + 3 * WIDTH * HIDDEN + 2 * WIDTH) + WIDTH
    assert found.ways[3].trained == whole


def test_the_files_are_those_of_peft_and_transformers_and_answer_alike(place, found):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lora, load = found.ways[1], AutoModelForCausalLM.from_pretrained
    ids = torch.arange(30).view(2, 15)
    with torch.no_grad():
        base = load(place / "student")
        before = base(ids).logits
        adapted = PeftModel.from_pretrained(base, lora.adapter)(ids).logits
        merged = load(lora.folder)(ids).logits
    assert (adapted - before).abs().max() > 0.1
    assert torch.allclose(merged, adapted, atol=1e-5)
    assert lora.reloaded == 0 and 0 < lora.merged < 1e-5
    assert AutoTokenizer.from_pretrained(lora.folder).eos_token_id is not None
    # Bits per byte of the merged folder, as the command itself measures them.
    again = run(place, f"student={lora.folder}", "lora=null", "anchor=null", "recipe.epochs=1", runs="again")
    assert again.ways[0].new.bits_per_byte == pytest.approx(lora.new.bits_per_byte, abs=1e-5)
    assert again.ways[0].old.bits_per_byte == pytest.approx(lora.old.bits_per_byte, abs=1e-5)


def test_what_is_written_is_no_other_than_what_was_trained(place, monkeypatch):
    from distillab.export import adapter as export
    from distillab.export.adapter import save_adapter
    from distillab.models.causal_lm import CausalLM, pretrained_lm
    from distillab.models.lora import add_lora

    model = CausalLM(pretrained_lm(str(place / "student")), 280, 16)
    adapters = add_lora(model.net, rank=2, alpha=4, seed=0)
    load = export.pretrained_lm

    def other(path):
        net = load(path)
        with torch.no_grad():
            net.get_input_embeddings().weight += 1e-3
        return net

    monkeypatch.setattr(export, "pretrained_lm", other)
    with pytest.raises(UserError, match="answers otherwise"):
        save_adapter(model, adapters, str(place / "student"), None, place / "spoilt")


def test_the_anchor_is_the_base_model_and_leaves_the_adapters_on(place):
    from distillab.models.causal_lm import CausalLM, pretrained_lm
    from distillab.models.lora import add_lora
    from distillab.tasks.causal_lm import LanguageModeling
    from distillab.teachers.unadapted import Unadapted

    model = CausalLM(pretrained_lm(str(place / "student")), 280, 16)
    batch = LanguageModeling().example_batch(model)
    with torch.no_grad():
        before = model(**batch.inputs[0])
        adapters = add_lora(model.net, rank=2, alpha=4, seed=0)
        assert torch.equal(model(**batch.inputs[0]), before), "adapters begin as nothing"
        for name, parameter in model.net.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
        after = model(**batch.inputs[0])
    model.train()
    (outputs,) = Unadapted(model, adapters)(batch)
    assert torch.equal(outputs.logits, before) and not torch.equal(after, before)
    assert model.training and torch.equal(model.eval()(**batch.inputs[0]), after)
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.net.named_parameters())


def test_a_stopped_one_goes_on_to_the_same_figures_and_a_finished_one_is_shown_again(place, found, capsys):
    with small_run.stopped_at(5):
        run(place, "anchor=3", "full=false", runs="stopped")
    (home,) = (
        (place / "stopped" / "new").glob("adapt-*")
        if (place / "stopped" / "new").exists()
        else place.glob("stopped/*/adapt-*")
    )
    assert not (home / "adapt.json").exists() and (home / "lora_anchor" / "checkpoints" / "last.ckpt").exists()
    resumed = run(place, "anchor=3", "full=false", runs="stopped")
    assert [one.new for one in resumed.ways] == [one.new for one in found.ways[:3]]
    assert [one.old for one in resumed.ways] == [one.old for one in found.ways[:3]]
    capsys.readouterr()
    assert run(place, "anchor=3", "full=false", runs="stopped") == resumed
    said = capsys.readouterr().out
    assert "was finished on" in said and "adapter read back" not in said and "forgotten" in said
    assert json.loads((home / "adapt.json").read_text())["ways"][0]["new"]["documents"] == resumed.ways[0].new.documents


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("student=nowhere", "data=text", "data.path=x"), "no folder of a language model"),
        (("data=text",), "student is missing"),
        (("student=x",), "data is missing"),
        (("student=x", "data=text", "strategy=kd"), "strategy=kd: an adaptation takes"),
        (("student={student}", "data=digits"), "is no text"),
        (("student={student}", "data=text", "data.path=x", "old.path=y"), "old is missing: old.path"),
        (("student={student}", "data=text", "data.path=x", "anchor=-1"), "anchor must be a number above 0, or null"),
        (("student={student}", "data=text", "data.path=x", "lora.rnk=4"), 'lora has no "rnk"; did you mean "rank"'),
    ],
)
def test_bad_words_are_told_in_one_line(place, words, said):
    with pytest.raises(UserError) as error:
        command.adapt([word.format(student=place / "student") for word in words])
    assert said in str(error.value) and "\n" not in str(error.value)


def test_layers_are_named_by_path_where_another_layer_has_the_name():
    from distillab.models.lora import block_layers

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList(torch.nn.Sequential(torch.nn.Linear(2, 2)) for _ in range(2))
            self.head = torch.nn.Linear(2, 2)

    net = Net()
    assert block_layers(net) == ["0"]
    net.other = torch.nn.Sequential(torch.nn.Linear(2, 2))
    assert block_layers(net) == ["blocks.0.0", "blocks.1.0"]
    with pytest.raises(UserError, match="no linear layers"):
        block_layers(torch.nn.Linear(2, 2))
