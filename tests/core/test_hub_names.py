"""Names of folders and of the hub: what is a path is no name, and a name without a network is one quick line."""

import socket
import time

import pytest
from helpers.texts import tiny_llama

from distillab.core import ready_made
from distillab.core.errors import UserError
from distillab.core.places import folder_or_name
from distillab.data.text.tokenizer import load_tokenizer
from distillab.models.causal_lm import pretrained_lm


@pytest.mark.parametrize("place", ["./nope", "/nope", "~/nope", "a/b/c", "here/nope", "package:torch/nope"])
def test_what_looks_like_a_path_and_is_not_there_is_refused(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(UserError, match=r"teacher\.path: there is no folder .*nope|a/b/c") as caught:
        folder_or_name(place, "teacher.path")
    assert "\n" not in str(caught.value)


def test_other_names_are_names_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder_or_name("org/name", "teacher.path") == "org/name" and folder_or_name("gpt2", "teacher.path") == "gpt2"


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Every name is unknown, and the cache of the hub empty."""
    from huggingface_hub import constants

    def refuse(*arguments, **named):
        asked.append(arguments)
        raise socket.gaierror(-2, "Name or service not known")

    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    ready_made.why_unreachable.cache_clear()
    yield asked
    ready_made.why_unreachable.cache_clear()


@pytest.mark.parametrize("read", [pretrained_lm, lambda name: pretrained_lm(name, pretrained=False), load_tokenizer])
def test_a_name_without_a_network_is_one_quick_line(read, no_network, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it tries again"))
    with pytest.raises(
        UserError, match=r"no folder here, and the network could not be reached .* name a folder that holds it"
    ) as caught:
        read("org/nope")
    assert "\n" not in str(caught.value) and "(" in str(caught.value)
    assert len(no_network) <= 1, "asked once"


def test_a_folder_needs_no_network(no_network, tmp_path):
    tiny_llama().save_pretrained(tmp_path / "model")
    pretrained_lm(str(tmp_path / "model"))
    assert not no_network


def test_hf_hub_offline_is_told(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    ready_made.why_unreachable.cache_clear()
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        load_tokenizer("org/nope")
    ready_made.why_unreachable.cache_clear()
