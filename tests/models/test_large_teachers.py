"""Teachers too large to hash or to move: known by their folder, placed by accelerate, read in their dtype."""

import copy

import pytest
import torch
from helpers.small_text import LENGTH, TOKENS, tokenizer_folder
from helpers.texts import tiny_llama
from safetensors.torch import load_file, save_file

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.models import causal_lm, folder_identity
from distillab.models.build_language_model import build_language_model, check_language_model
from distillab.models.fingerprint import weights_hash

TARGET = {"_target_": "distillab.models.causal_lm.pretrained_lm", "pretrained": True}


@pytest.fixture
def folder(tmp_path):
    tokenizer_folder(tmp_path / "teacher")
    tiny_llama(TOKENS, seed=3).save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


def built(folder, role="teacher", **config):
    known = ModelConfig.of({**TARGET, "path": str(folder), **config}, role)
    check_language_model(known, role)
    return build_language_model(known, role, TOKENS, LENGTH, seed=0)


def identity(folder, **config):
    return weights_hash(built(folder, **config))


def test_a_small_folder_is_known_by_all_of_its_weights(folder):
    model = built(folder)
    assert model.origin is None and len(weights_hash(model)) == 64


def test_a_large_folder_is_known_by_its_headers_and_the_beginnings_of_its_tensors(folder, monkeypatch):
    monkeypatch.setattr(folder_identity, "LIMIT", 1000)
    first = identity(folder)
    assert first.startswith("folder-") and first == identity(folder)
    with torch.no_grad():
        model = built(folder)
        model.net.model.embed_tokens.weight[0, 0] += 1  # a teacher never changes, and is not hashed again
    assert weights_hash(model) == first
    known = {first}
    for change in (written_otherwise, retrained, reconfigured):
        change(folder)
        known.add(identity(folder))
    assert len(known) == 4
    (folder / "notes.txt").write_text("nothing of the model's")
    assert identity(folder) in known


def written_otherwise(folder):
    file = folder / "model.safetensors"
    save_file(load_file(file), file, {"format": "pt", "by": "another"})  # the same tensors, another header


def retrained(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] + 0.5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def reconfigured(folder):
    file = folder / "config.json"
    file.write_text(file.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))


@pytest.mark.parametrize(
    "config", [{"role": "student"}, {"adapt": "all"}, {"layers": [0]}, {"role": "scheme.assistants.0"}]
)
def test_weights_that_a_run_changes_or_takes_in_part_are_hashed_in_whole(config, folder, monkeypatch):
    monkeypatch.setattr(folder_identity, "LIMIT", 1000)
    assert built(folder, **config).origin is None


def test_a_frozen_teacher_is_read_in_its_dtype_and_one_that_is_trained_is_not(folder):
    held, plain = built(folder, dtype="bfloat16"), built(folder)
    assert {p.dtype for p in held.net.parameters()} == {torch.bfloat16} and held.held_in == torch.bfloat16
    plain.hold_in("bfloat16")
    inputs = plain.example_inputs()
    assert torch.equal(held(**inputs), plain(**inputs)) and held(**inputs).dtype == torch.float32
    assert weights_hash(held) == weights_hash(plain)
    assert built(folder, dtype="bfloat16", adapt="all").held_in is None


@torch.no_grad()
def test_a_teacher_that_a_device_map_has_placed_is_not_moved(folder):
    pytest.importorskip("accelerate")
    placed, plain = built(folder, device_map="cpu"), built(folder)
    weight = placed.net.model.embed_tokens.weight
    module = torch.nn.ModuleDict({"teacher": placed, "student": torch.nn.Linear(2, 2)})
    module.to("meta")
    assert module["student"].weight.is_meta and placed.net.model.embed_tokens.weight is weight
    placed.double()
    assert weight.dtype == torch.float32
    inputs = plain.example_inputs()
    assert torch.equal(placed(**inputs), plain(**inputs)) and torch.equal(placed.outputs(**inputs), plain(**inputs))
    assert weights_hash(placed) == weights_hash(plain)
    copy.deepcopy(placed)(**inputs)


@pytest.mark.parametrize(
    "config, said",
    [
        ({"role": "student"}, r"student.device_map is for a frozen teacher.*student\.device_map=null"),
        ({"adapt": "all"}, r"teacher\.adapt=null"),
        ({"shard": True}, r"teacher\.shard=false"),
    ],
)
def test_a_device_map_is_of_frozen_teachers_alone(config, said, folder):
    with pytest.raises(UserError, match=said):
        built(folder, device_map="auto", **config)


def test_a_device_map_without_accelerate_is_one_line(folder, monkeypatch):
    monkeypatch.setattr(causal_lm, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match="device_map needs accelerate, which is not installed: pip install accelerate"
    ) as caught:
        built(folder, device_map="auto")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("teacher")


@pytest.mark.parametrize("small", [1e8, 100])
def test_a_folder_that_was_changed_has_another_content(tmp_path, monkeypatch, small):
    monkeypatch.setattr(folder_identity, "SMALL", small)
    (tmp_path / "config.json").write_text("{}")
    found = []
    for value in (0.0, 1.0):
        save_file({"a": torch.full((100,), value), "b": torch.zeros(2000)}, tmp_path / "model.safetensors")
        found.append(folder_identity.folder_content(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    found.append(folder_identity.folder_content(tmp_path))
    (tmp_path / "notes.md").write_text("mine")
    (tmp_path / ".cache").mkdir()
    assert len(set(found)) == 3 and folder_identity.folder_content(tmp_path) == found[-1]
