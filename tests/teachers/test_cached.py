"""Replayed teachers: cold, warm and resumed runs are one run; what is not cacheable runs live."""

import copy
import errno

import lightning as L
import pytest
import torch
from helpers.cache_settings import SETTINGS, settings, typed
from helpers.data_checks import digits as other_digits
from helpers.data_checks import folder, write_images
from helpers.fits import SHAPE, strategy
from torch.utils._python_dispatch import TorchDispatchMode

from distillab import Distillation
from distillab.core.errors import UserError
from distillab.core.stopping import Stopped
from distillab.data.batch import AS_STORED
from distillab.models.image_model import ImageModel
from distillab.schemes.cache import with_cache
from distillab.strategies.strategy import Strategy
from distillab.teachers import cache, cached
from distillab.teachers.frozen import FrozenTeacher
from distillab.training.callbacks import StopCleanly

SAMPLES = 128  # of `few_digits`: two batches of 64 to an epoch


@pytest.fixture
def made(network, few_digits):
    def make(name, root, config=SETTINGS, seed=0, teacher_seed=1, data=few_digits, epochs=2):
        student, teacher = (ImageModel(net, SHAPE) for net in (network(seed), network(teacher_seed, depth=14)))
        parts, recipe = Strategy.of(strategy(name)), {"epochs": epochs}
        ready = data.configure(64, seed, parts.num_views)
        config = config | {"recipe": config["recipe"] | recipe}
        source = with_cache(FrozenTeacher(teacher), parts, ready, typed(config, root))
        return Distillation(student, source, parts, seed=seed, recipe=recipe), ready

    return make


def fit(module, data, epochs=2, resume=None, callbacks=()):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    quiet |= {"enable_model_summary": False, "use_distributed_sampler": False, "num_sanity_val_steps": 0}
    engine = L.Trainer(max_epochs=epochs, callbacks=list(callbacks), **quiet)
    engine.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    module.teacher.flush()
    return {key: value.clone() for key, value in module.student.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("name", "cache"),
    [
        ("kd", {"dtype": "float32"}),
        ("kd", {}),
        ("dist", {"top_k": 3}),
        ("srrl", {}),  # embedding, head and logits
        ("pkt", {}),  # the embedding alone
        ("crld", {}),  # two views
    ],
)
def test_cold_warm_and_resumed_runs_end_in_the_same_weights(name, cache, made, tmp_path):
    config = settings(**cache)
    module, data = made(name, tmp_path / "a", config)
    cold = fit(module, data)
    assert module.teacher.replayed == 0 and module.teacher.computed == 2 * SAMPLES * module.strategy.num_views
    module, data = made(name, tmp_path / "a", config)
    assert same(fit(module, data), cold)
    assert module.teacher.computed == 0 and module.teacher.replayed == 2 * SAMPLES * module.strategy.num_views

    class Ask(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            stop.asked = trainer.global_step == 2

    stop = StopCleanly(tmp_path / "last.ckpt")
    module, data = made(name, tmp_path / "b", config)
    with pytest.raises(Stopped):
        fit(module, data, callbacks=[Ask(), stop])
    module, data = made(name, tmp_path / "b", config)
    assert same(fit(module, data, resume=tmp_path / "last.ckpt"), cold)
    assert module.teacher.computed < SAMPLES * module.strategy.num_views


def test_mixed_samples_are_replayed(made, tmp_path):
    data = other_digits(tmp_path, samples=SAMPLES, augment={"crop": 1, "mixup": 0.4, "cutmix": 1.0})

    def weights(mode):
        return fit(*made("kd", tmp_path, settings(dtype="float32", mode=mode), data=data, epochs=1), epochs=1)

    live, cold, warm = weights("never"), weights("auto"), weights("require")
    assert same(cold, live) and same(warm, live)


def test_methods_of_one_view_and_of_two_share_the_weak_one(made, tmp_path):
    fit(*made("kd", tmp_path, epochs=1), epochs=1)
    with pytest.raises(UserError, match=r"lacks 1 of the 2 views that recipe\.epochs=1 reads"):
        made("crld", tmp_path, settings(mode="require"), epochs=1)
    module, data = made("crld", tmp_path, epochs=1)
    fit(module, data, epochs=1)
    assert module.teacher.replayed == module.teacher.computed == SAMPLES  # the strong ones are new
    made("crld", tmp_path, settings(mode="require"), epochs=1)
    strong = {"operations": 1, "magnitude": 2, "cutout": 0}
    gentle = other_digits(tmp_path, samples=SAMPLES, augment={"crop": 1, "strong": strong})
    with pytest.raises(UserError, match="lacks 1 of the 2 views"):
        made("crld", tmp_path, settings(mode="require"), data=gentle, epochs=1)
    made("kd", tmp_path, settings(mode="require"), data=gentle, epochs=1)


def test_a_full_disk_stops_the_cache_and_not_the_training(made, tmp_path, capsys, monkeypatch):
    live = fit(*made("kd", tmp_path, settings(mode="never"), epochs=1), epochs=1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.View, "_write", full)
    module, data = made("kd", tmp_path, settings(dtype="float32"), epochs=1)
    assert same(fit(module, data, epochs=1), live) and not list(tmp_path.rglob("*.shard"))
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_what_a_run_takes_beyond_the_limit_is_said_beforehand(made, tmp_path, capsys):
    size = SAMPLES * 20 + SAMPLES // 8  # ten logits in two bytes each, and a bit
    for limit, said in ((5.9 * size / 1e9, True), (6.1 * size / 1e9, False), (None, False)):
        made("crld", tmp_path, settings(limit_gb=limit), epochs=3)
        assert ("6 views of this run take up to 0.00 GB more" in capsys.readouterr().out) == said
    cycle = other_digits(tmp_path, samples=SAMPLES, views=2)
    made("kd", tmp_path, settings(limit_gb=2.1 * size / 1e9), data=cycle, epochs=300)
    assert "views of this run" not in capsys.readouterr().out
    other = tmp_path / "cache" / "another" / "000000-0" / "000000000.shard"
    other.parent.mkdir(parents=True)
    other.write_bytes(bytes(2 * size))
    made("kd", tmp_path, settings(limit_gb=2.1 * size / 1e9), data=cycle, epochs=300)
    assert "2 views of this run" in capsys.readouterr().out, "caches of other teachers count"


def test_float32_equals_the_live_teacher_and_float16_nearly(made, tmp_path):
    live = fit(*made("kd", tmp_path / "x", settings(mode="never")))
    assert not (tmp_path / "x").exists()
    assert same(fit(*made("kd", tmp_path / "a", settings(dtype="float32"))), live)
    rounded = fit(*made("kd", tmp_path / "b"))
    assert not same(rounded, live)
    assert torch.allclose(rounded["net.fc.weight"], live["net.fc.weight"], atol=0.02)


def test_other_seeds_and_methods_share_the_views(made, tmp_path):
    fit(*made("kd", tmp_path))
    for name, seed in (("kd", 7), ("dkd", 3)):
        module, data = made(name, tmp_path, settings(mode="require"), seed=seed)
        fit(module, data)
        assert module.teacher.computed == 0
    with pytest.raises(UserError, match=r"cache\.mode=require, and the teacher cache lacks"):
        fit(*made("kd", tmp_path, settings(mode="require")), epochs=3)


def test_require_is_refused_before_a_step_where_a_view_is_not_there(made, few_digits, tmp_path):
    with pytest.raises(UserError, match=r"lacks 2 of the 2 views that recipe\.epochs=2 reads"):
        made("kd", tmp_path, settings(mode="require"))
    fit(*made("kd", tmp_path))
    made("kd", tmp_path, settings(mode="require"))
    with pytest.raises(UserError, match=r"lacks 1 of the 3 views .*; fill it with cache\.mode=auto"):
        made("kd", tmp_path, settings(mode="require"), epochs=3)
    again = copy.copy(few_digits)
    again.cycle = 1  # every epoch reads view 0; the data, and so the key, are others
    fit(*made("kd", tmp_path, data=again))
    made("kd", tmp_path, settings(mode="require"), data=again, epochs=9)


class Waits(TorchDispatchMode):
    """Counts what would make the host wait for a device: a number, or a tensor, that is read off it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        on_device = any(isinstance(x, torch.Tensor) and x.device.type == "meta" for x in args)
        to = str((kwargs or {}).get("device", ""))
        if on_device and (name in ("aten::_local_scalar_dense", "aten::nonzero") or to == "cpu"):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_a_warm_step_looks_its_samples_up_without_a_look_at_the_device(made, tmp_path):
    """A meta tensor has no numbers to read, as little as a GPU's has before the GPU is done."""
    fit(*made("kd", tmp_path))
    module, data = made("kd", tmp_path)
    batch = next(iter(data.train_dataloader()))
    batch = batch.to("meta")
    assert batch.index.is_meta and batch.host_index is not None
    batch.inputs = [{"pixels": view.float()} for view in batch.pixels]
    with Waits() as waits:
        (outputs,) = module.teacher(batch)
    assert outputs.logits.is_meta and outputs.logits.shape == (64, 10) and module.teacher.replayed == 64
    assert waits.seen == []
    batch.host_index = None
    with pytest.raises(NotImplementedError), waits:  # without the host's copy it would have to look
        module.teacher(batch)


def test_outputs_that_arrive_late_are_waited_for_where_they_are_read(made, tmp_path, monkeypatch):
    """The copies of a GPU, made up: none has arrived before somebody waits for it."""
    waited = []

    class Late:
        def query(self):
            return False

        def synchronize(self):
            waited.append(self)

    expected = fit(*made("kd", tmp_path / "a"))
    monkeypatch.setattr(cached, "to_host", lambda fields: (dict(fields), Late()))
    module, data = made("kd", tmp_path / "b")
    weights = fit(module, data)
    assert same(weights, expected) and len(waited) == 4  # each batch of both epochs
    monkeypatch.undo()
    module, data = made("kd", tmp_path / "b", settings(mode="require"))
    assert same(fit(module, data), expected)

    # The same view again before anything has arrived: nothing is computed twice.
    monkeypatch.setattr(cached, "to_host", lambda fields: (dict(fields), Late()))
    again = copy.copy(data)
    again.cycle = 1
    module, ready = made("kd", tmp_path / "c", data=again)
    fit(module, ready)
    assert module.teacher.computed == module.teacher.replayed == SAMPLES


@pytest.mark.parametrize("name", ["hint", "attention", "simkd"])
def test_methods_that_read_maps_run_the_teacher_live_and_say_so(name, made, tmp_path, capsys):
    module, _ = made(name, tmp_path)
    assert type(module.teacher) is FrozenTeacher and "the teacher runs live: strategy." in capsys.readouterr().out
    with pytest.raises(UserError, match=r"cache\.mode=require, but strategy"):
        made(name, tmp_path, settings(mode="require"))


def test_the_trial_before_the_first_step_leaves_no_trace(made, tmp_path):
    module, data = made("kd", tmp_path)
    before = copy.deepcopy(module.teacher.cache_record)
    L.Trainer(max_epochs=1, limit_train_batches=0, logger=False, enable_checkpointing=False, accelerator="cpu").fit(
        module, datamodule=data
    )
    assert module.teacher.cache_record == before


def test_samples_as_they_are_stored_never_touch_the_cache(made, tmp_path, monkeypatch):
    """Evaluation and a look at the data: the teacher runs, and nothing is looked up, kept or counted."""
    module, data = made("kd", tmp_path)
    monkeypatch.setattr(module.teacher.cache, "view", lambda *_: pytest.fail("the cache was asked"))
    for split in ("train", "validation"):
        batch = data.on_after_batch_transfer(next(iter(data.evaluation_dataloader(split))))
        assert batch.view_number == AS_STORED
        (outputs,), (live,) = module.teacher(batch), FrozenTeacher.forward(module.teacher, batch)
        assert torch.equal(outputs.logits, live.logits)
    assert module.teacher.replayed == module.teacher.computed == 0
    module.teacher.flush()
    assert not list(tmp_path.rglob("*.shard"))


def test_samples_that_stand_twice_in_a_batch_have_one_record(made, tmp_path):
    """Drawn with replacement: the run that fills the cache ends in the weights of the one that reads it."""
    data = other_digits(tmp_path, samples=SAMPLES, sampler="balanced")
    cold, ready = made("kd", tmp_path / "a", data=data)
    assert all(len(batch.index.unique()) < len(batch) for batch in ready.train_dataloader())
    first = fit(cold, ready)
    warm, ready = made("kd", tmp_path / "a", data=data)
    assert same(fit(warm, ready), first) and warm.teacher.computed == 0


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_what_worker_processes_read_is_kept_under_its_own_sample(workers, network, tmp_path):
    """A batch that has left its worker says the right places, and a replayed answer is the live teacher's, after a resume too."""
    root = write_images(tmp_path / "images", {"a": 40, "b": 40}, size=SHAPE[1:], mode="L")
    data = folder(root, memory_budget=0, workers=workers).configure(16, 1)
    parts, live = Strategy.of(strategy("kd")), FrozenTeacher(ImageModel(network(1, 14, 2), SHAPE))
    live.request({"logits"})

    def teach(mode, batches=None):
        config = settings(dtype="float32", mode=mode)
        source = with_cache(
            FrozenTeacher(ImageModel(network(1, 14, 2), SHAPE)), parts, data, typed(config, tmp_path / "s")
        )
        source.request({"logits"})
        loader, seen = data.train_dataloader(), 0
        if batches is not None:
            loader.load_state_dict({"epoch": 0, "batches": batches})
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                batch = data.on_after_batch_transfer(batch.to("cpu"))
                assert batch.places.tolist() == batch.index.tolist()
                assert torch.equal(source(batch)[0].logits, live(batch)[0].logits)
                seen += len(batch)
        source.flush()
        return source.computed, source.replayed, seen

    computed, replayed, seen = teach("auto")
    assert computed == seen == 2 * data.sizes["train"] and not replayed
    assert teach("require") == (0, seen, seen)
    assert teach("require", batches=2) == (0, seen - 32, seen - 32)
