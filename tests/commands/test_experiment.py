"""The whole path, small but real: store, result, reuse, teachers from files, and the command itself."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from helpers.data_checks import write_images
from helpers.made_results import made
from helpers.small_run import run
from omegaconf import OmegaConf

from distillab.commands import composition as config
from distillab.commands import experiment, steps
from distillab.commands.invocation import Invocation, home, parse
from distillab.core import files
from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.files import write_json
from distillab.core.instantiate import build
from distillab.core.result import Result
from distillab.evaluation.efficiency import parameters
from distillab.models.image_model import ImageModel
from distillab.models.zoo.cifar_resnet import CifarResNet
from distillab.strategies.simkd import ProjectedStudent

DEPLOYED = ("parameters", "multiply_adds", "latency_ms", "latency_p95_ms", "latency_batch_ms", "size_bytes")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


def directory(place, result):
    return place / "runs" / result.name / result.config_hash


@pytest.fixture(scope="module")
def hint(place):
    return run(place, "strategy=hint")


def test_a_run_writes_what_it_promises(place, hint):
    folder = directory(place, hint)
    written = json.loads((folder / "result.json").read_text())
    for key in ("schema", "command", "config", "config_hash", "versions", "seeds", "strategy", "gain", "seconds"):
        assert key in written
    for role in ("teacher", "baseline", "student"):
        assert written[role]["name"] and 0 < written[role]["metrics"]["top1"] <= 1
        assert all(written[role]["efficiency"][figure] is not None for figure in DEPLOYED), role
    assert written["primary"]["value"] == written["metrics"]["top1"] == written["student"]["metrics"]["top1"]
    assert written["gain"] == pytest.approx(written["metrics"]["top1"] - written["baseline"]["metrics"]["top1"])
    assert Result.model_validate(written) == hint
    assert (folder / "checkpoints" / "last.ckpt").is_file() and (folder / "checkpoints" / "best.ckpt").is_file()
    assert (folder / "config.yaml").is_file()
    for name in ("leaderboard.csv", "leaderboard.md", "accuracy_vs_parameters.png"):
        assert (place / "runs" / name).stat().st_size > 0


def test_the_exported_student_is_the_tested_one(place, hint, unmeasured):
    """Loaded as a teacher from its file alone it scores what the result says."""
    file = directory(place, hint) / "student.safetensors"
    result = run(place, f"teacher.checkpoint={file}", "teacher=resnet8", "baseline=false")
    assert result.score("teacher") == hint.primary.value
    assert result.gain is None and result.teacher.training.seen_validation == "unknown"


def test_what_ships_with_the_student_is_counted_and_exported(place, unmeasured):
    result = run(place, "strategy=simkd", "baseline=false")
    from distillab.evaluation.metrics import predict, top1
    from distillab.models.build import build_model

    cfg = OmegaConf.to_container(config.compose(["student=resnet8", f"data.cache_dir={place}/store"]), resolve=True)
    data = build(cfg["data"], "data")
    data.prepare()
    spec = data.info
    own = ModelConfig.of(cfg["student"], "student")
    student = build_model(own, "student", spec.classes, (1, 8, 8), mean=spec.mean, std=spec.std, seed=5)
    file = directory(place, result) / "student.safetensors"
    loaded = ProjectedStudent.load(file, student)
    assert top1(*predict(loaded, data, "test", "cpu")) == result.primary.value
    assert parameters(loaded) == result.student.efficiency.parameters != parameters(student)
    with pytest.raises(UserError, match="holds no other trained with strategy=simkd"):
        ProjectedStudent.load(
            file, ImageModel(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), (1, 8, 8), "other")
        )


def test_teacher_and_baseline_are_reused_and_finished_runs_shown(place, hint, capsys):
    result = run(place, "strategy=attention")
    assert result.teacher.training.reused and result.baseline.training.reused
    assert result.score("baseline") == hint.score("baseline")
    alone = run(place, "strategy=none")
    assert alone.student.training.reused and alone.primary.value == hint.score("baseline") and alone.gain is None
    capsys.readouterr()
    again = run(place, "strategy=hint")
    assert "rerun=true repeats it" in capsys.readouterr().out and again.created == hint.created


def test_a_strategy_that_no_teacher_serves_is_a_run_without_one(place, unmeasured):
    result = run(place, "strategy=none", "strategy.ce.weight=0.5", "recipe.epochs=1", "baseline=false")
    assert result.teacher is None and result.cache is None and result.score("student") > 0


def test_a_run_on_classes_whose_names_are_no_utf_8_ends(tmp_path):
    """Result, tables, plots and model card hold the escaped name."""
    for split, count in (("train", 16), ("test", 8)):
        for name in (b"caf\xe9", b"a$b$|"):
            place = os.fsencode(tmp_path / "pictures" / split) + b"/" + name
            write_images(Path(os.fsdecode(place)), {"": count}, size=(8, 8))
    words = ("data=folder", f"data.root={tmp_path}/pictures", "recipe.batch_size=8", "teacher.recipe.batch_size=8")
    result = run(tmp_path, *words, "equal_compute=false", "recipe.epochs=1", "teacher.recipe.epochs=1")
    assert (
        result.data.class_names == ["a$b$|", "caf\\xe9"] and result.data.name == "pictures" and result.data.fingerprint
    )
    folder = directory(tmp_path, result)
    assert "caf\\xe9" in (folder / "README.md").read_text() and (folder / "limits.png").stat().st_size
    assert json.loads((folder / "result.json").read_text())["data"]["class_names"] == result.data.class_names


def test_a_student_of_another_width_is_refused_before_the_data_are_read(tmp_path):
    for name in "abc":
        write_images(tmp_path / "pictures" / name, {"": 2}, size=(8, 8))
    torch.save(CifarResNet(8, num_classes=3, in_channels=3, width=2).state_dict(), tmp_path / "wide.pt")
    words = ["data=folder", f"data.root={tmp_path}/pictures", "student=resnet8"]
    with pytest.raises(UserError, match=r"student.*\(32, 16, 3, 3\), expected \(16, 16, 3, 3\)"):
        run(tmp_path, *words, f"student.checkpoint={tmp_path}/wide.pt")
    assert not (tmp_path / "runs").exists() and not (tmp_path / "store").exists()


def test_another_seed_has_the_same_teacher_and_another_baseline(place, hint, unmeasured):
    result = run(place, "strategy=kd", "seed=1")
    assert result.teacher.training.reused and not result.baseline.training.reused


def test_a_teacher_in_another_class_order_is_told_and_mapped(place, hint, capsys, tmp_path, unmeasured):
    store = next((place / "store" / "networks").glob("resnet14-*")) / "model.safetensors"
    from safetensors.torch import load_file

    weights = load_file(store)
    order = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    weights["fc.weight"], weights["fc.bias"] = weights["fc.weight"][order], weights["fc.bias"][order]
    torch.save(weights, tmp_path / "shuffled.pt")
    wrong = run(place, f"teacher.checkpoint={tmp_path}/shuffled.pt", "baseline=false", "recipe.epochs=1")
    told = capsys.readouterr().err
    named = [hint.data.class_names[i] for i in order]
    assert (
        f"your class order differs: teacher resnet14 is right on {100 * wrong.teacher.validation['top1']:.1f} %" in told
    )
    assert f"teacher.classes=[{','.join(named)}]" in told
    right = run(
        place, f"teacher.checkpoint={tmp_path}/shuffled.pt", f"teacher.classes=[{','.join(named)}]", "baseline=false"
    )
    assert right.score("teacher") == pytest.approx(hint.score("teacher"))


def test_a_run_that_is_refused_once_its_teacher_is_trained_leaves_no_folder(tmp_path, monkeypatch):
    """The store keeps the teacher; what fails in the fit keeps its folder, and so does one that was there before."""

    def refuse(*_, **__):
        raise UserError("refused")

    words = ("strategy=kd", "baseline=false", "recipe.epochs=1", "teacher.recipe.epochs=1", "data.samples=64")
    with monkeypatch.context() as patch, pytest.raises(UserError, match="refused"):
        patch.setattr(steps, "with_cache", refuse)
        run(tmp_path, *words)
    assert not (tmp_path / "runs").exists() and list((tmp_path / "store" / "networks").iterdir())
    with monkeypatch.context() as patch, pytest.raises(UserError, match="refused"):
        patch.setattr(steps.training, "fit", refuse)
        run(tmp_path, *words)
    (log,) = (tmp_path / "runs").glob("*/*/log.txt")
    with monkeypatch.context() as patch, pytest.raises(UserError, match="refused"):
        patch.setattr(steps, "with_cache", refuse)
        run(tmp_path, *words)
    assert log.exists()


HOLDER = """
import sys
from pathlib import Path
from distillab.core.files import locked
with locked(Path(sys.argv[1]), "", ""):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_waits_for_a_run_and_shows_what_the_first_one_made(monkeypatch, capsys, tmp_path):
    """`rerun=true` deletes nothing under a process that is at work; a dead one holds nothing."""
    cfg = OmegaConf.to_container(config.compose(["logger=none", f"paths.runs={tmp_path}"]), resolve=True)
    folder = home(parse(cfg))
    lock = folder.with_name(f".{folder.name}.lock")
    lock.parent.mkdir(parents=True)
    holder = [sys.executable, "-c", HOLDER, str(lock)]
    first = subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    told = []

    def said(text):
        told.append(text)
        if text.startswith("waiting"):  # now the first one ends, and its result is there
            write_json(folder / "result.json", made(created="2024-01-02T00:00:00+00:00").as_json())
            first.kill()

    monkeypatch.setattr(files, "rank_zero_print", said)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "_make", lambda *_: pytest.fail("it was made again"))
        result = experiment.run(Invocation(parse(cfg), "kd", sweep_folder=tmp_path / "study"))
    assert result.created.startswith("2024-01-02") and "finished on 2024-01-02" in capsys.readouterr().out
    assert told == [f"waiting for another process that is at {folder}"]
    first.communicate()

    again = subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert again.stdout.readline() == "held\n"
    kept = []

    def look(*_):
        kept.append((folder / "result.json").is_file())

    monkeypatch.setattr(files, "rank_zero_print", lambda text: (look(), again.kill()))
    monkeypatch.setattr(steps, "prepare", look)
    monkeypatch.setattr(steps, "pretrain", lambda _: (look(), sys.exit("stopped before it trains")))
    with pytest.raises(SystemExit, match="stopped"):
        experiment.run(Invocation(parse(cfg | {"rerun": True}), "kd"))
    assert kept == [True, True, False], "while it waits, while it may be refused, when it is made again"
    again.communicate()


def test_the_wheel_runs_elsewhere_with_a_method_and_a_network_of_the_users(tmp_path):
    """The wheel, unpacked outside the checkout; README's method in one file and one YAML; a class beside them."""
    built = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(built, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    user = tmp_path / "user"
    (user / "my_conf" / "strategy").mkdir(parents=True)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for name, language in (("my_methods.py", "python"), ("my_conf/strategy/logit_mse.yaml", "yaml")):
        block = readme.split(f"```{language}\n# {name}\n")[1].split("```")[0]
        (user / name).write_text(block)
    (user / "my_package.py").write_text(
        "from torch import nn\n"
        "class MyNet(nn.Sequential):\n"
        "    def __init__(self, num_classes, in_channels):\n"
        "        super().__init__(nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2),\n"
        "                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))\n"
    )
    words = ["--config-dir", "my_conf", "strategy=logit_mse", "debug=quick", "teacher=resnet8", "data.samples=64"]
    words += ["student=custom", "student._target_=my_package.MyNet"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    command = [sys.executable, "-c", "from distillab.commands.cli import main; main()", *words]
    done = subprocess.run(command, cwd=user, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(next(user.glob("runs/debug/*/result.json")).read_text())
    assert result["strategy"] == "logit_mse" and result["student"]["name"] == "MyNet"


@pytest.mark.slow
def test_two_processes_train_teacher_baseline_and_both_phases(tmp_path):
    """Rank 0 judges and writes, both train; the second phase reaches parameters that the first one froze."""
    words = ["trainer=ddp", "trainer.accelerator=cpu", "debug=small", "strategy=hint_two_phase", "teacher=resnet8"]
    words += ["teacher.recipe.epochs=2", "student=resnet14"]
    command = [sys.executable, str(Path(__file__).parents[2] / "train.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(next(tmp_path.glob("runs/debug/*/result.json")).read_text())
    assert (
        result["student"]["training"]["epochs"] == 3 and result["baseline"]["metrics"] and result["teacher"]["metrics"]
    )
    assert done.stdout.count("epoch 1/3") == 2  # one line per fit, not per process
