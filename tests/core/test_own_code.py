"""The source of what a person wrote: whatever of it changes makes another run and another stored network."""

import importlib

import pytest

from distillab.core.own_code import code_of, source

NET = "from torch import nn\nfrom my_parts.blocks import act\nclass Net(nn.Sequential):\n    pass\n"


@pytest.fixture
def of(tmp_path, monkeypatch):
    """The hash for `my_net.Net` of these files."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_parts").mkdir()

    def found(net=NET, blocks="from . import deep\n", deep="", target="my_net.Net", **more):
        for name, text in {"my_net": net, "my_parts/blocks": blocks, "my_parts/deep": deep, **more}.items():
            (tmp_path / f"{name}.py").write_bytes(text.encode())
        importlib.invalidate_caches()
        source.cache_clear()
        return code_of(
            {"student": {"_target_": target}, "strategy": {"kd": {"_target_": "distillab.strategies.kd.Kd"}}}
        )

    return found


def test_every_module_on_the_way_counts_and_no_other(of):
    first = of()
    others = [
        of(NET + "\n"),
        of(blocks="from . import deep\nx = 1\n"),
        of(deep="act = 'Sigmoid'\n"),
        of(target="my_parts.deep.make"),
    ]
    assert len({first, *others}) == 5 and None not in (first, *others)
    assert first == of(unrelated="x = 1") == of(NET.replace("\n", "\r\n")), "another file, line ends of another machine"


def test_installed_code_is_no_own_code(of):
    assert {of(target=name) for name in ("torch.nn.Linear", "distillab.models.torchvision.build", "json.loads")} == {
        None
    }
    assert of(target="nobody.knows.it") is None and of(target="") is None


def test_a_file_that_is_edited_while_a_run_goes_on_changes_nothing_of_it(of, tmp_path):
    """Python has imported the older text: what is trained by it must not get the key of the newer one."""
    first = of()
    (tmp_path / "my_net.py").write_text("class Net: pass\n")
    assert code_of({"_target_": "my_net.Net", "other": [{"_target_": "distillab.strategies.kd.Kd"}]}) == first
