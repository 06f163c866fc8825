"""Runs a fixed set of short experiments and records the hash of every student's weights and the figures of its result.

    python tests/slow/recording.py now.json                  # records
    python tests/slow/recording.py now.json before.json      # records, and compares with an earlier recording

A change that promises the same results gives the same recording on the same machine. Each case is a whole command in a
process of its own; all of them share one store and one teacher cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import runpy
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SMALL = ("student=resnet8", "teacher=resnet14", "logger=none", "equal_compute=false", "trainer.progress_bar=false")
SMALL += (
    "data.samples=512",
    "recipe.epochs=2",
    "teacher.recipe.epochs=2",
    "trainer.accelerator=cpu",
    "data.labelled=1.0",
)
FOLDER = ("data=folder", "data.root=images", "data.samples=null", "data.augment.crop=1")

CASES: dict[str, tuple[str, ...]] = {
    "none": ("strategy=none",),
    "kd": ("strategy=kd", "equal_compute=multiply_adds"),
    **{name: (f"strategy={name}",) for name in ("hint", "attention", "crd", "ft", "mlkd", "simkd", "reviewkd", "nd")},
    **{name: (f"strategy={name}",) for name in ("hint_two_phase", "luminet", "ctkd", "dkd", "crld", "ofd")},
    "kd+hint": ("strategy=[kd,hint]",),
    "dot": ("strategy=kd", "recipe.optimizer=dot", "recipe.lr=0.05"),
    "clip": ("strategy=hint", "recipe.clip=1", "recipe.optimizer=sgd", "recipe.lr=0.05", "recipe.weight_decay=5e-4"),
    "mixup": ("strategy=kd", "data.augment.mixup=1"),
    "cutmix": ("strategy=kd", "data.augment.cutmix=1", "data.augment.mixup=1"),
    "labels=teacher": ("strategy=kd", "data.labels=teacher"),
    "labelled": ("strategy=hint", "data.labelled=0.2", "teacher.labelled=1.0"),
    "corrupt": ("strategy=kd", "teacher.corrupt_classes=[3,5]"),
    "paper": ("strategy=kd", "protocol=paper"),
    "top_k": ("strategy=kd", "cache.top_k=3"),
    "views": ("strategy=kd", "data.views=1"),
    "folder": ("strategy=kd", *FOLDER),
    "folder, files": ("strategy=kd", *FOLDER, "data.memory_budget=0", "data.workers=0"),
    "folder, workers": ("strategy=kd", *FOLDER, "data.memory_budget=0", "data.workers=2"),
    "ensemble": ("strategy=kd", "scheme=ensemble", "scheme.teachers=[resnet8]"),
    "ensemble, confidence": ("scheme=ensemble", "scheme.teachers=[resnet8]", "scheme.weighting=confidence"),
    "ema": ("strategy=kd", "scheme=ema"),
    "self": ("strategy=kd", "scheme=self"),
    "self, student": ("strategy=kd", "scheme=self", "scheme.source=student"),
    "mutual": ("strategy=kd_tuned", "scheme=mutual"),
    "born_again": ("strategy=kd", "scheme=born_again"),
    "assistant": ("strategy=kd", "teacher=resnet20", "scheme=assistant"),
    "cache, cold": ("strategy=kd", "seed=7", "recipe.epochs=6", "baseline=false", "paths.store=cold"),
    "cache, warm": ("strategy=kd", "seed=7", "recipe.epochs=6", "baseline=false", "paths.store=cold", "rerun=true"),
    "cache, resumed": ("strategy=kd", "seed=7", "recipe.epochs=6", "baseline=false", "paths.runs=resumed"),
}
STOPPED = "cache, resumed"  # is interrupted in its second epoch and given again
FIGURES = ("top1", "top5", "balanced_accuracy", "macro_f1", "nll", "brier", "calibration_error", "top1_validation")
FIGURES += ("top1_best", "top1_last", "gain", "gap_closed", "epoch", "epochs", "parameters", "multiply_adds")


def record(folder: Path) -> dict[str, Any]:
    """Run every case below a folder; for each one the hashes of its students and the figures of its result."""
    os.chdir(folder)
    _images(folder / "images")
    import torchvision  # noqa: F401 - here, so that every case starts with them

    found = {}
    for name, overrides in CASES.items():
        words = [*SMALL, "paths.runs=runs/" + hashlib.sha256(name.encode()).hexdigest()[:6], "paths.store=store"]
        words = [word for word in words if word.partition("=")[0] not in {o.partition("=")[0] for o in overrides}]
        started = time.time()
        log = folder / "log.txt"
        place = next(word for word in [*words, *overrides] if word.startswith("paths.runs=")).partition("=")[2]
        if name == STOPPED:
            _command([*words, *overrides], log, stop="epoch 2/6")
            assert not list(Path(place).glob("*/*/result.json")), "it was stopped too late to tell anything"
        code = _command([*words, *overrides], log)
        found[name] = _result(Path(place)) if code == 0 else {"error": log.read_text()[-2000:]}
        print(f"{name:24} {time.time() - started:6.1f} s  {found[name].get('student', found[name])}", flush=True)
    return {"machine": machine(), "cases": found}


def machine() -> dict[str, str]:
    """What the last bits of a result owe to the machine."""
    import torch

    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    threads = str(torch.get_num_threads())
    return {"cpu": cpu, "threads": threads, "torch": torch.__version__, "python": platform.python_version()}


def compare(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """One line for every case and figure that differs."""
    lines = []
    for name, was in before["cases"].items():
        found = now["cases"].get(name, {})
        lines += [
            f"{name}: {key} was {was.get(key)}, is {found.get(key)}"
            for key in sorted(was.keys() | found.keys())
            if was.get(key) != found.get(key)
        ]
    return lines


def _command(words: list[str], log: Path, stop: str | None = None) -> int:
    """The exit code of `train.py` with these words, in a process of its own; interrupted once `stop` is in its log."""
    log.write_text("")
    child = os.fork()
    if child == 0:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = [str(ROOT / "train.py"), *words]
        code = 1
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    while stop is not None and stop not in log.read_text():
        time.sleep(0.01)
    if stop is not None:
        os.kill(child, signal.SIGINT)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _result(runs: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    (path,) = runs.glob("*/*/result.json")
    result = json.loads(path.read_text())
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path.with_name("student.safetensors")).items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    found: dict[str, Any] = {"student": digest.hexdigest()[:16]}
    for role in ("teacher", "baseline", "student", "longer"):
        for key, value in _figures(result.get(role)):
            found[f"{role} {key}"] = value
    curves = hashlib.sha256(json.dumps(list(_curves(result["student"]))).encode())
    found["gain"], found["curves"] = result.get("gain"), curves.hexdigest()[:16]
    return found


def _figures(node: Any) -> list[tuple[str, float]]:
    """The figures of a model's part of a result, wherever in it they stand."""
    if not isinstance(node, dict):
        return []
    own = [(key, value) for key, value in node.items() if key in FIGURES and isinstance(value, int | float)]
    inner = (value for key, value in node.items() if key in ("metrics", "efficiency", "training"))
    validated = [(f"{key}_validation", value) for key, value in (node.get("validation") or {}).items()]
    return own + validated + [pair for value in inner for pair in _figures(value)]


def _curves(node: Any) -> list[list[float]]:
    """Every epoch's losses and validated figures."""
    if isinstance(node, dict) and isinstance(node.get("curves"), list):
        named = [{k: v for k, v in epoch.items() if k.startswith(("train/", "val/"))} for epoch in node["curves"]]
        return [[epoch[key] for key in sorted(epoch)] for epoch in named]
    inner = node.values() if isinstance(node, dict) else ()
    return next((found for value in inner if (found := _curves(value))), [])


def _images(root: Path) -> None:
    """Three classes of the digits as PNG files, in train/ and test/."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number in range(3):
        for place, image in enumerate(digits.images[digits.target == number][:120]):
            folder = root / ("train" if place < 90 else "test") / f"digit{number}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 15.9375).astype("uint8")).save(folder / f"{place:03}.png")


if __name__ == "__main__":
    written, *earlier = (Path(word).resolve() for word in sys.argv[1:])
    with tempfile.TemporaryDirectory() as temporary:
        recorded = record(Path(temporary))
        os.chdir(ROOT)
    written.write_text(json.dumps(recorded, indent=1) + "\n")
    if earlier:
        differences = compare(recorded, json.loads(earlier[0].read_text()))
        print("\n".join(differences) or "identical")
        sys.exit(1 if differences else 0)
