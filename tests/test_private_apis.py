"""Private names of other packages that distillab builds on: each is listed here, and still is what distillab takes it for."""

import ast
import inspect
import re
from argparse import ArgumentParser
from pathlib import Path

import hydra
import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.loops.fit_loop import _FitLoop
from omegaconf import OmegaConf
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PretrainedConfig

SOURCE = Path(__file__).parents[1] / "src" / "distillab"
IMPORTED = {
    "hydra._internal.config_loader_impl": "keys.py: overrides of keys that only the code knows",
    "hydra._internal.core_plugins.basic_sweeper": "sweep.py: a sweeper whose cells go on after one failed",
    "hydra._internal.core_plugins.file_config_source": "composition.py: student and teacher are one group of models",
    "hydra._internal.core_plugins.structured_config_source": "composition.py: likewise",
    "hydra._internal.sources_registry": "composition.py: likewise",
    "hydra._internal.utils": "words.py: the options that Hydra itself takes",
    "torch._subclasses.fake_tensor": "trace.py: shapes of large networks without computing",
    "torch.utils._python_dispatch": "efficiency.py: the memory of a forward pass",
    "torch.utils._pytree": "efficiency.py: the tensors in a result",
}
READ = {
    "_attn_implementation": PretrainedConfig(),
    "_cdata": torch.zeros(1).untyped_storage(),
    "_data_fetcher": _FitLoop,
    "_forward_hooks": nn.Module(),
    "_forward_pre_hooks": nn.Module(),
    "_get_root": OmegaConf.create({"a": {}}).a,
    "_modules": nn.Module(),
    "_option_string_actions": ArgumentParser(),
    "_value": OverridesParser.create().parse_override("a=1"),
}


def trees():
    for path in sorted(SOURCE.rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


def is_private(name):
    return any(re.match(r"_[a-z]", part) for part in name.split("."))


def test_imports_of_private_modules_are_listed():
    nodes = [node for tree in trees() for node in ast.walk(tree)]
    found = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    found |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in found if is_private(name) and not name.startswith("distillab")} == set(IMPORTED)


def own_names():
    """Every private name that distillab defines by itself."""
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                yield node.attr
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id


def test_reads_of_private_attributes_are_listed():
    own = set(own_names()) - {"_value"}  # which is set on an override of Hydra
    found = {
        node.attr
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own
    }
    # Of lists and named tuples, documented in spite of their names; of wandb, which the dashboard's own tests call.
    assert found - {"_asdict", "_replace", "_fields", "_to_model", "_target_"} == set(READ)


@pytest.mark.parametrize("name", READ)
def test_private_attributes_exist(name):
    where = READ[name]
    assert hasattr(where, name) or name in inspect.getsource(where)


def test_hydra_is_as_it_was():
    assert list(inspect.signature(ConfigLoaderImpl._apply_overrides_to_config).parameters) == ["overrides", "cfg"]
    assert {"split_arguments", "sweep"} <= set(vars(BasicSweeper))
    for source in (FileConfigSource, StructuredConfigSource):
        assert {"load_config", "is_group", "is_config", "list"} <= set(vars(source))
    assert isinstance(SourcesRegistry.instance().types, dict)
    assert "--multirun" in get_args_parser()._option_string_actions
    assert hydra.__version__.startswith("1.3.")


def test_lightning_is_as_it_was():
    assert list(inspect.signature(_FitLoop.advance).parameters) == ["self"]
    assert {"processed"} <= set(inspect.signature(type(_FitLoop(_trainer()).epoch_progress.current)).parameters)
    loop = _FitLoop(_trainer()).epoch_loop
    for name in ("on_run_start", "advance", "on_advance_end"):
        assert list(inspect.signature(getattr(loop, name)).parameters) == ["data_fetcher"]


def _trainer():
    from lightning.pytorch import Trainer

    return Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")


def test_torch_is_as_it_was():
    with FakeTensorMode():
        assert (torch.empty(3, 4) @ torch.empty(4, 5)).shape == (3, 5)

    class Calls(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += 1
            return func(*args, **(kwargs or {}))

    with Calls() as calls:
        torch.ones(2) + 1
    assert calls.count >= 2
    assert len(tree_leaves([torch.ones(1), {"a": torch.ones(1)}])) == 2
    one = torch.ones(4)
    assert one.untyped_storage()._cdata == one[:2].untyped_storage()._cdata != torch.ones(4).untyped_storage()._cdata
