"""A Distillation in one's own script: strategies by name, testing, predicting, and the student that comes out."""

import re
import runpy
from pathlib import Path

import lightning
import pytest
import torch
from helpers.fits import SHAPE, small
from torch.utils.data import DataLoader

from distillab import Distillation
from distillab.core.errors import UserError


@pytest.mark.filterwarnings("ignore")
def test_the_example_runs_as_printed_from_imports_to_the_saved_student(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = [part for part in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "import Distillation" in part]
    Path("own_script.py").write_text(code)
    found = runpy.run_path("own_script.py")
    fresh = found["network"](16)
    fresh.load_state_dict(torch.load(tmp_path / "student.pt", weights_only=True))
    images, module = found["images"], found["module"].eval()
    assert torch.equal(fresh(images[:8]), module(images[:8]))
    right = (module(images).argmax(1).numpy() == found["digits"].target).mean()
    assert right > 0.7 and module.trainer.callback_metrics["test/top1"] > 0.7


def test_strategies_have_names():
    module = Distillation(small(0, 8), small(1, 14), ["kd", "hint"], input_shape=SHAPE)
    assert list(module.strategy.terms) == ["ce", "kd", "hint"] and module.strategy.terms["ce"].weight == 1.0
    phased = Distillation(small(0, 8), small(1, 14), "hint_two_phase", input_shape=SHAPE)
    assert len(phased.strategy.plan(8)) == 2
    with pytest.raises(UserError, match=r'no strategy "hin"; did you mean "hint"\? \(allowed: ab'):
        Distillation(small(0, 8), small(1, 14), "hin", input_shape=SHAPE)


def test_predictions_are_the_deployed_models(plain_loader):
    """Of a pair of images and labels, of images alone, and by calling the module."""
    module = Distillation(small(0, 8), None, "none", input_shape=SHAPE).eval()
    engine = lightning.Trainer(logger=False, accelerator="cpu", devices=1, enable_progress_bar=False)
    images = plain_loader.dataset.tensors[0]
    with torch.no_grad():
        wanted = module.deployed()(images)
        assert torch.equal(module(images), wanted)
    for loader in (plain_loader, DataLoader(images, batch_size=64)):
        torch.testing.assert_close(torch.cat(engine.predict(module, loader)), wanted)
