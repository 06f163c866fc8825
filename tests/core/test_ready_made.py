"""Models and tokenizers of transformers are read without their code, and only where their weights are all there."""

import json
import logging

import pytest
from helpers.texts import documents, tiny_llama

from distillab.core.errors import UserError
from distillab.data.text.synthetic.config import Generation
from distillab.data.text.synthetic.teacher import load
from distillab.data.text.tokenizer import load_tokenizer, train_tokenizer
from distillab.models.causal_lm import pretrained_lm

CODE = """
open(__file__ + ".ran", "w").close()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig):
    model_type = "mine"
class Net(LlamaForCausalLM):
    config_class = Config
class Tokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def folder(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "mine")
    train_tokenizer(documents(), 300).save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def readers(place):
    """All ways to read a model, or its tokenizer."""
    return {
        "weights": lambda: pretrained_lm(place),
        "config": lambda: pretrained_lm(place, pretrained=False),
        "tokenizer": lambda: load_tokenizer(place),
        "writer": lambda: load(Generation(teacher=place, out="out", file="file", device="cpu")),
    }


@pytest.mark.parametrize("way", readers(""))
def test_no_code_of_a_model_runs_whatever_the_answer_on_the_terminal(folder, monkeypatch, way):
    (folder / "code.py").write_text(CODE)
    change(
        folder / "config.json",
        model_type="mine",
        auto_map={"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Net"},
    )
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="Tokenizer",
        auto_map={"AutoTokenizer": [None, "code.Tokenizer"]},
    )
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    with pytest.raises(UserError, match="custom code") as caught:
        readers(str(folder))[way]()
    assert "\n" not in str(caught.value) and not list(folder.parent.rglob("*.ran"))


@pytest.mark.parametrize("way", ["weights", "writer"])
def test_weights_that_lack_a_part_are_refused_and_not_made_up(folder, way):
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    readers(str(folder))["weights"]()
    change(folder / "config.json", num_hidden_layers=layers + 1)
    with pytest.raises(UserError, match=rf"weights lack 9 of the parameters.*layers\.{layers}\."):
        readers(str(folder))[way]()


@pytest.mark.parametrize("way", ["weights", "writer"])
def test_weights_of_another_size_are_named(folder, way):
    change(folder / "config.json", vocab_size=32)
    with pytest.raises(UserError, match=r"lm_head.weight is \(64, 16\) in its weights, and \(32, 16\) by its config"):
        readers(str(folder))[way]()


def test_tied_weights_stand_once_in_the_file_and_are_all_there(tmp_path):
    tiny_llama(tie_word_embeddings=True).save_pretrained(tmp_path)
    assert pretrained_lm(str(tmp_path)).config.tie_word_embeddings


@pytest.mark.parametrize("change_, shown", [({"num_hidden_layers": 3}, False), ({"num_hidden_layers": 1}, True)])
def test_the_table_of_transformers_is_shown_only_where_no_line_says_the_same(change_, shown, folder, monkeypatch):
    change(folder / "config.json", **change_)
    said = []
    monkeypatch.setattr(logging.getLogger("transformers"), "handlers", [Listener(said)])
    try:
        pretrained_lm(str(folder))
    except UserError as error:
        assert not shown and "lack" in str(error)
    assert any("LOAD REPORT" in line for line in said) == shown


class Listener(logging.Handler):
    """Keeps what is said."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def emit(self, record):
        self.said.append(record.getMessage())
