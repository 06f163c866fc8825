"""What cannot work is refused in one line before anything is trained."""

import re

import pytest
import torch
from helpers.small_run import composed, run

from distillab.commands.invocation import parse
from distillab.commands.preflight import preflight
from distillab.core.errors import UserError
from distillab.core.instantiate import build
from distillab.data.images.sources import Digits
from distillab.models.zoo.cifar_resnet import CifarResNet
from distillab.schemes import pretrain as trained
from distillab.schemes.base import Run
from distillab.schemes.setting import Setting
from distillab.schemes.store import Store
from distillab.strategies.strategy import Strategy
from distillab.tasks.image_classification import ImageClassification


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["strategy=hint", "strategy.hint.stage=layer9"],
            'strategy.hint: resnet8 has no stage "layer9"; allowed: first, middle, last',
        ),
        (["data=folder", "data.root=absent"], "absent"),
        (["recipe.batch_size=100000"], "recipe.batch_size"),
        (["recipe.batch_size=1", "strategy=nd"], "strategy.nd needs batches of at least 2 samples, got 1"),
        (["protocol=paper", "protocol.validation=0.2"], "paper trains on all samples (protocol.validation=0)"),
        (["protocol=paper", "data.validation=0.2"], "protocol=paper takes 0 of the training samples for validation"),
        (["data.validation=0"], "and the data 0; set data.validation=0.1"),
        (["recipe.batch_size=0"], "recipe.batch_size must be a whole number from 1, got 0"),
        (["student=custom"], "student._target_ is missing"),
        (["paths.runs=/proc/runs"], "cannot write to /proc/runs"),
        (["paths.store=/proc/store"], "/proc/store"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_trained(tmp_path, overrides, said):
    with pytest.raises(UserError) as caught:
        run(tmp_path, "name=bad", *overrides)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    written = {path.name for path in (tmp_path / "runs").glob("bad/*/*")}
    assert not written, "a refused run writes nothing"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["student.stages=[layer1,nothing]"], 'student: resnet8 has no stage "nothing"'),
        (["student.stages=layre2"], 'did you mean "layer2"'),
        (["student.head=fx"], 'student: resnet8 has no head "fx" (its modules: conv1'),
        (["teacher.checkpoint=absent.pt"], "teacher.checkpoint: there is no file absent.pt; teacher.checkpoint="),
        (["teacher.checkpoint=other.pt"], "teacher.checkpoint: other.pt does not fit resnet14"),
        (["teacher.checkpoint=text.pt"], "teacher.checkpoint: text.pt is no checkpoint"),
        (["scheme=ensemble", "scheme.teachers=[{model: resnet8, checkpoint: absent.pt}]"], "scheme.teachers.0.checkpoint"),
        (["student=custom", "student._target_=nowhere.Net"], 'student._target_: cannot import "nowhere.Net"'),
        (["student=custom", "student._target_=test_trial.MaxPooled", "student.stags=[a]"], 'did you mean "stages"'),
    ],
)  # fmt: skip
def test_what_shows_without_data_is_said_before_they_are_read(tmp_path, monkeypatch, overrides, said):
    """Nor is a folder made: large data take minutes to decode."""
    monkeypatch.chdir(tmp_path)
    torch.save({"conv.weight": torch.zeros(1)}, "other.pt")
    (tmp_path / "text.pt").write_text("hello")
    monkeypatch.setattr(Digits, "prepare", lambda *_: pytest.fail("the data were read"))
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        run(tmp_path, *overrides)
    assert "\n" not in str(caught.value) and not (tmp_path / "runs").exists() and not (tmp_path / "store").exists()


def test_a_checkpoint_of_other_classes_than_are_named_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "fit", lambda *_, **__: pytest.fail("something was trained"))
    torch.save(CifarResNet(8, num_classes=7, in_channels=1).state_dict(), tmp_path / "seven.pt")
    with pytest.raises(UserError, match=r"fc.weight is \(7, 64\), expected \(10, 64\).*student.classes=\[…\]"):
        run(tmp_path, f"student.checkpoint={tmp_path}/seven.pt", "student.classes=[0,1,2,3,4,5,6,7,8,9]")


def test_a_teacher_that_answers_nan_is_told_at_once(tmp_path, monkeypatch):
    """Its weights are finite: a variance below 0 is not seen in the file."""
    monkeypatch.setattr(trained, "fit", lambda *_, **__: pytest.fail("something was trained"))
    state = CifarResNet(14, num_classes=10, in_channels=1).state_dict()
    state["bn1.running_var"] -= 3
    torch.save(state, tmp_path / "negative.pt")
    with pytest.raises(UserError, match=r"resnet14 gives NaN .* answers to 359 of 359 samples .*teacher.checkpoint=…"):
        run(tmp_path, f"teacher.checkpoint={tmp_path}/negative.pt")


class OneClass(Digits):
    """Digits that are all zeros, as far as the training labels go."""

    @property
    def training_labels(self):
        return super().training_labels * 0


class OneLabel(ImageClassification):
    """A task that chooses the labels of its example itself."""

    def example_batch(self, model, num_views=1, labels=None):
        return super().example_batch(model, num_views, None if labels is None else labels * 0)


class MaxPooled(torch.nn.Module):
    """A network whose head does not read the mean of its last map."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.layer1 = torch.nn.Sequential(torch.nn.Conv2d(in_channels, 16, 3), torch.nn.ReLU())
        self.layer2 = torch.nn.Sequential(torch.nn.Conv2d(16, 32, 3, 2), torch.nn.ReLU())
        self.fc = torch.nn.Linear(32, num_classes)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(x)).amax((2, 3)))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["strategy=cat", "student=custom", "student._target_=test_trial.MaxPooled"], "does not read the mean"),
        (["strategy=sdd", "student=custom", "student._target_=test_trial.MaxPooled"], "does not read the mean"),
        (["strategy=simkd", "teacher=custom", "teacher._target_=test_trial.MaxPooled"], "does not read the mean"),
        (["strategy=crd", "data._target_=test_trial.OneClass"], "the training data have one"),
        (["strategy=crd", "task._target_=test_trial.OneLabel"], "the training data have one"),
        (["cache.top_k=2.5"], "cache.top_k"),
    ],
)
def test_what_a_term_finds_out_in_a_step_is_said_before_the_teacher_is_trained(tmp_path, monkeypatch, overrides, said):
    monkeypatch.setattr(trained, "fit", lambda *_, **__: pytest.fail("something was trained"))
    with pytest.raises(UserError, match=re.escape(said)):
        run(tmp_path, *overrides)


def test_trying_the_terms_out_leaves_nothing_behind(capsys, tmp_path):
    """Neither in the networks nor in the random numbers nor on the screen; phases, peers and mixtures can be tried."""
    for words in (["strategy=crd"], ["strategy=ft"], ["strategy=kd", "scheme=mutual"],
                  ["strategy=kd", "scheme=ensemble", "scheme.teachers=[resnet8]", "data.labels=teacher"]):  # fmt: skip
        typed = parse(composed(tmp_path, *words))
        data = build(typed.data, "data")
        data.prepare()
        strategy, task = Strategy.of(typed.strategy), build(typed.task, "task")
        setting = Setting(Store(typed.paths.store), typed.protocol, typed.trainer, task)
        this = Run(typed, data, strategy, setting)
        scheme, student = build(typed.scheme, "scheme"), this.student()
        strategy.connect(student.info, scheme.prepare(this, student), 0)
        networks = [student, strategy, *([scheme.model] if scheme.model is not None else [])]
        state = [{key: value.clone() for key, value in network.state_dict().items()} for network in networks]
        generator = torch.get_rng_state()
        capsys.readouterr()
        preflight(scheme, this, student)
        assert capsys.readouterr().out == "" and torch.equal(torch.get_rng_state(), generator)
        for network, before in zip(networks, state, strict=True):
            assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items()), words
            assert all(parameter.requires_grad for parameter in network.parameters()), words
            assert not any(module._forward_hooks for module in network.modules()), words
