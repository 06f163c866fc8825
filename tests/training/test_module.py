"""The LightningModule: the teacher's contract, every strategy, phases, and exact resumes."""

import copy

import lightning as L
import pytest
import torch
import yaml
from torch import nn

from distillab import Distillation
from distillab.commands.composition import conf_dir
from distillab.core.errors import UserError
from distillab.strategies.strategy import Strategy
from distillab.training.callbacks import Interrupted, StopCleanly

SHAPE = (1, 8, 8)
STRATEGIES = sorted(path.stem for path in (conf_dir() / "strategy").glob("*.yaml"))


def strategy(name):
    return yaml.safe_load((conf_dir() / "strategy" / f"{name}.yaml").read_text())


def trainer(epochs=2, **arguments):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0}
    return L.Trainer(max_epochs=epochs, use_distributed_sampler=False, **quiet | arguments)


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items() if not k.startswith("teacher.")}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


class Watch(L.Callback):
    """Notes whether the teacher was in eval mode at every step."""

    def __init__(self):
        self.modes = []

    def on_train_batch_end(self, trainer, module, *_):
        if module.teacher is not None:
            self.modes.append(any(m.training for m in module.teacher.modules()))


class DropoutNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3))
        self.layer2 = nn.Sequential(nn.Conv2d(8, 16, 3, 2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


def test_the_strategies_are_found():
    assert {"none", "kd", "hint", "hint_two_phase", "attention"} <= set(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_trains_and_the_teacher_stays(name, digits, network):
    teacher = network(seed=1, depth=14)
    before = copy.deepcopy(teacher.state_dict())
    module = Distillation(network(), teacher, strategy(name), input_shape=SHAPE)
    start, watch = weights(module), Watch()
    engine = trainer(2, callbacks=[watch])
    engine.fit(module, datamodule=digits.configure(64, 0, module.strategy.num_views))
    for key, value in before.items():  # bit-identical, buffers too
        assert torch.equal(teacher.state_dict()[key], value), key
    assert not any(watch.modes)
    held = {id(p) for group in engine.optimizers[0].param_groups for p in group["params"]}
    assert not held & {id(p) for p in teacher.parameters()}
    if module.teacher is not None:
        assert len(watch.modes) == engine.global_step > 0
    after = weights(module)
    assert any(not torch.equal(start[key], after[key]) for key in start if key.startswith("student."))
    for term in strategy(name):
        if term != "phases":
            assert torch.isfinite(engine.callback_metrics.get(f"train/{term}", torch.zeros(())))


@pytest.fixture
def confident(network):
    """A teacher that is sure of what it says, as a trained one: some terms pass over doubtful samples."""
    teacher = network(seed=1, depth=14)
    teacher.fc.weight.data *= 100
    return teacher


def seen_batch(data, module):
    """A batch as a step sees it, and the module after it has looked at the data."""
    module.trainer = trainer(1, callbacks=[])
    module.trainer.datamodule = data
    module._show_data()
    batch = next(iter(data.train_dataloader()))
    return data.on_after_batch_transfer(batch)


def taught(parts):
    """A strategy without the labels, which pull elsewhere; one of phases as it is."""
    if "phases" in parts:
        return parts
    return {key: node for key, node in parts.items() if Strategy.of({key: node}).terms[key].kind == "distil"}


def own_loss(module, batch):
    """What the distilling terms say of a batch."""
    torch.manual_seed(0)
    module.train()  # after so few steps the running statistics of BatchNorm are not the batch's
    for term in module.strategy.terms.values():
        term.set_epoch(0, 1)
    with torch.no_grad():
        names = tuple(n for n, t in module.strategy.terms.items() if t.kind == "distil")
        return sum(module.losses(batch, names).values())


def assert_every_term_reaches_the_student(module, batch):
    reading = [
        n for n, term in module.strategy.terms.items() if any(need.startswith("student.") for need in term.needs)
    ]
    for term, loss in module.losses(batch, tuple(reading)).items():
        gradients = torch.autograd.grad(loss, list(module.student.parameters()), allow_unused=True, retain_graph=True)
        total = sum(g.abs().sum() for g in gradients if g is not None)
        assert loss.dtype == torch.float32 and torch.isfinite(loss) and torch.isfinite(total) and total > 0, term


@pytest.mark.parametrize("name", [n for n in STRATEGIES if n != "none"])
def test_every_term_reaches_the_student(name, network, confident, digits):
    module = Distillation(network(), confident, strategy(name), input_shape=SHAPE)
    batch = seen_batch(digits.configure(64, 0, module.strategy.num_views), module)
    assert_every_term_reaches_the_student(module, batch)
    with torch.autocast("cpu", torch.bfloat16):  # as in a step of trainer.precision=bf16-mixed
        assert_every_term_reaches_the_student(module, batch)


@pytest.mark.parametrize("name", [n for n in STRATEGIES if n != "none"])
def test_every_strategy_lowers_its_own_loss(name, network, confident, digits):
    module = Distillation(network(), confident, taught(strategy(name)), input_shape=SHAPE)
    data = digits.configure(64, 0, module.strategy.num_views)
    batch = seen_batch(data, module)
    before = own_loss(module, batch)
    trainer(4).fit(module, datamodule=data)
    assert own_loss(module, batch) < before


def test_the_teacher_is_absent_from_the_checkpoint_and_loading_is_strict(tmp_path, digits, network):
    teacher = network(seed=1)
    module = Distillation(network(), teacher, strategy("kd"), input_shape=SHAPE)
    engine = trainer(1)
    engine.fit(module, datamodule=digits.configure(64, 0))
    engine.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved["state_dict"] and not [k for k in saved["state_dict"] if k.startswith("teacher.")]
    module.on_load_checkpoint(saved)
    module.load_state_dict(saved["state_dict"], strict=True)


def stop_and_resume(make, data, stop_at, epochs, folder):
    """Weights of an unbroken fit, and of one that was stopped after a step and resumed by a fresh module."""
    whole = make()
    trainer(epochs).fit(whole, datamodule=data(whole))

    class Ask(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            stop.asked = trainer.global_step + 1 >= stop_at

    stop = StopCleanly(folder / "last.ckpt")
    broken = make()
    with pytest.raises(Interrupted):
        trainer(epochs, callbacks=[Ask(), stop]).fit(broken, datamodule=data(broken))
    torch.manual_seed(99)
    resumed = make()
    trainer(epochs).fit(resumed, datamodule=data(resumed), ckpt_path=folder / "last.ckpt", weights_only=True)
    return weights(whole), weights(resumed)


@pytest.mark.parametrize("name", ["kd", "hint_two_phase"])
@pytest.mark.parametrize("stop_at", [3, 8])
def test_a_stop_in_mid_epoch_and_a_resume_end_in_the_unbroken_weights(name, stop_at, tmp_path, digits, network):
    def make():
        torch.manual_seed(0)
        return Distillation(DropoutNet(), network(seed=1), strategy(name), input_shape=SHAPE, recipe={"lr": 1e-3})

    data = lambda module: digits.configure(48, 0)  # noqa: E731 - 256 images: 6 steps an epoch
    assert_equal(*stop_and_resume(make, data, stop_at, 3, tmp_path))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_resumes(name, tmp_path, digits, network):
    def make():
        return Distillation(network(), network(seed=1, depth=14), strategy(name), input_shape=SHAPE)

    data = lambda module: digits.configure(64, 0, module.strategy.num_views)  # noqa: E731
    assert_equal(*stop_and_resume(make, data, 6, 3, tmp_path))  # 4 steps an epoch


def test_dropout_does_not_depend_on_what_was_drawn_before(digits):
    ends = []
    for noise in (1, 2):
        torch.manual_seed(0)
        module = Distillation(DropoutNet(), None, strategy("none"), input_shape=SHAPE)
        torch.manual_seed(noise)
        trainer(1).fit(module, datamodule=digits.configure(64, 0))
        ends.append(weights(module))
    assert_equal(*ends)


def test_an_undeclared_read_is_an_error(network):
    from distillab.strategies.base import Term

    class Nosy(Term):
        needs = ("student.logits",)

        def forward(self, student, teacher, batch):
            return student.logits.sum() + teacher.logits.sum()

    from distillab.data.images.image_batch import ImageBatch

    module = Distillation(network(), network(), {"kd": strategy("kd")["kd"], "nosy": Nosy()}, input_shape=SHAPE)
    with pytest.raises(AttributeError):
        module.losses(ImageBatch.of([torch.rand(2, *SHAPE)], torch.arange(2), torch.arange(2)), ("nosy",))


def test_a_loss_that_is_not_finite_stops_and_names_the_term(digits, network):

    from distillab.strategies.ce import CrossEntropy

    class Broken(CrossEntropy):
        def rows(self, *arguments):
            return super().rows(*arguments) * float("nan")

    module = Distillation(network(), None, {"broken": Broken()}, input_shape=SHAPE)
    with pytest.raises(UserError, match=r"strategy\.broken became nan"):
        trainer(1).fit(module, datamodule=digits.configure(64, 0))


def test_a_plain_trainer_and_a_plain_loader_work(plain_loader, network):
    module = Distillation(network(), network(seed=1), strategy("hint"), input_shape=SHAPE)
    L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu").fit(module, plain_loader)
    assert module.trainer.global_step == 4
