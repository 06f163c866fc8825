"""Provides trained networks: loads and measures a teacher, or trains teachers and baselines once and stores them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distillab.core.configuration import ModelConfig
from distillab.core.distributed import rank
from distillab.core.errors import UserError
from distillab.core.files import file_hash, writable
from distillab.core.output import rank_zero_print
from distillab.core.own_code import code_of, name_of, own_code
from distillab.core.recipe import Recipe
from distillab.data.module import DataModule
from distillab.export.safetensors import save_model
from distillab.models.checkpoint import load_weights, read_weights
from distillab.models.fingerprint import body_hash, code, preprocessing, weights_hash
from distillab.models.model import Model
from distillab.schemes.adapted import adaptation, before_training, better_on_validation, with_new_head
from distillab.schemes.measure import TRAINED, measure, predictions, scores, warn_if_weak
from distillab.schemes.record import Record
from distillab.schemes.setting import Setting
from distillab.schemes.store import NETWORKS, PLACE
from distillab.strategies.strategy import Strategy
from distillab.training.fit import fit
from distillab.training.module import Distillation

# Other parts of the key contain them, or they do not change the weights.
NOT_THE_MODEL = ("recipe", "samples", "seed", "name", "labelled", "corrupt_classes", "dtype", "shard", "adapt")
KEPT_TRAINER = ("limit_train_batches", "limit_val_batches", "channels_last")
NOTED_TRAINER = ("compile", "sync_batchnorm")  # if they are on
ALONE = {"ce": {"_target_": "distillab.strategies.ce.CrossEntropy", "weight": 1.0, "class_weights": None}}


def alone(strategy: Mapping[str, Any]) -> dict[str, Any]:
    """The strategy of the student alone beside another one: cross-entropy, by the same class weights."""
    own = strategy.get("ce")
    weights = own.get("class_weights") if isinstance(own, Mapping) else None
    return {"ce": {**ALONE["ce"], "class_weights": weights}}


@dataclass(frozen=True)
class Pretraining:
    """A network to be trained once, and all that its weights depend on.

    `model` is freshly built, with weights of the `seed`, which batch order and dropout follow too. Without a (trained)
    `teacher` it learns from the labels alone. `logger` gets the curves, those of an earlier fit too (its step is the
    epoch then).
    """

    model: Model
    config: ModelConfig
    data: DataModule
    recipe: Recipe
    seed: int
    title: str
    setting: Setting
    teacher: Model | None = None
    strategy: Mapping[str, Any] | None = None
    logger: Any = None

    def key(self) -> dict[str, Any]:
        """What the weights depend on; of the recipe only what is changed, so that a new option keeps the key."""
        trainer = asdict(self.setting.trainer)
        # Its own, the task's, and the lesson's code, where they are not installed.
        parts = [code(self.model), own_code(name_of(type(self.setting.task)))]
        if self.teacher is not None:
            parts += [code(self.teacher), code_of(self.strategy)]
        return {
            "model": {k: v for k, v in self.config.plain.items() if k not in NOT_THE_MODEL},
            "data": self.data.fingerprint,
            "recipe": {k: v for k, v in asdict(self.recipe).items() if v != getattr(Recipe, k)},
            "seed": self.seed,
            "protocol": asdict(self.setting.protocol),
            "trainer": {k: trainer[k] for k in KEPT_TRAINER} | {k: trainer[k] for k in NOTED_TRAINER if trainer[k]},
            "checkpoint": self.config.checkpoint and file_hash(self.config.checkpoint),
            **({"code": parts} if any(parts) else {}),
            **({"adapted": weights_hash(self.model)} if self.config.adapt else {}),  # from these weights on
            **(self._lesson(self.teacher, self.data) if self.teacher is not None else self._alone()),
        }

    def _alone(self) -> dict[str, Any]:
        return {} if self.strategy in (None, ALONE) else {"strategy": self.strategy}

    def _lesson(self, teacher: Model, data: DataModule) -> dict[str, Any]:
        lesson = {
            "strategy": self.strategy,
            "teacher": {"weights": weights_hash(teacher), "about": preprocessing(teacher), "spec": teacher.info.key()},
            "stages": self.model.info.key(),
        }
        if data.hides_labels:
            lesson["labels"] = [data.label_source, data.labelled, data.split_seed]
        if data.writing is not None:
            lesson["on_policy"] = [data.writing.share, data.writing.prompt, list(data.writing.ends)]
        views = Strategy.of(self.strategy).num_views
        if views > 1:  # the fingerprint of all data leaves the strong view out
            lesson["views"] = data.configure(self.recipe.batch_size, self.seed, num_views=views).fingerprint
        return lesson


def train_once(job: Pretraining) -> Record:
    """Give a model its trained weights, from the store or by a fit whose weights the store then keeps."""
    model, setting = job.model, job.setting

    def make(folder: Path) -> dict[str, Any]:
        module = Distillation(model, job.teacher, job.strategy or ALONE, setting.task, recipe=job.recipe, seed=job.seed)
        ready = setting.configured(job.data, job.recipe, job.seed, module.strategy.num_views)
        how = {"recipe": job.recipe, "protocol": setting.protocol, "trainer": setting.trainer}
        training = fit(module, ready, **how, directory=folder, title=job.title, logger=job.logger)
        module.release()  # the networks become teachers
        record = Record(training=training).changed(checkpoints=str(folder))
        if rank == 0:
            with writable(folder, PLACE):
                save_model(model, folder / "model.safetensors", job.config.plain, job.data.info.classes)
            test = predictions(model, job.data, setting, str(folder))
            record = record.changed(scores=scores(model, job.data, setting, test))
        return record.model_dump()

    folder, kept, reused = setting.store.once(NETWORKS, model.info.name, job.key(), make)
    record = Record.model_validate(kept)
    if reused:
        file = folder / "model.safetensors"
        load_weights(model.net, read_weights(file, "paths.store")[0], model.info.name, str(file), key="paths.store")
        for figures in record.training.curves if job.logger is not None else ():
            epoch = figures["epoch"] - 1  # Lightning counts from 0
            known = {name: value for name, value in figures.items() if name.startswith(("train/", "val/"))}
            job.logger.log_metrics(known | {"epoch": epoch}, step=epoch)
    return record.changed(str(folder), reused=reused)


def obtain_teacher(model: Model, config: ModelConfig, data: DataModule, setting: Setting) -> Record:
    """Give the teacher its weights, measure it, and print where they come from.

    `model` is as built from `config`, with a checkpoint's weights; `data` are the student's.
    """
    name, adapt = model.info.name, adaptation(model, config)
    own = teacher_data(data, config)
    if model.assumed:
        keys = "teacher.mean=[…] teacher.std=[…] teacher.input_size=…"
        rank_zero_print(f"teacher {name}: {model.assumed} are assumed, as its weights do not tell theirs ({keys})")
    if is_ready_made(config) and adapt is None:
        if config.dtype:
            model.hold_in(config.dtype)
        record = measure(model, data, setting)
        record = record.changed(source=str(config.checkpoint or "pretrained weights"), seen_validation="unknown")
    elif adapt in ("head", "none"):
        once = teacher_data(data, config, repeated=False)
        record = _held(model, config, data, setting, with_new_head(model, config, once, setting))
    else:
        once = teacher_data(data, config, repeated=False)
        before = before_training(model, config, data, once, setting) if adapt else None
        rank_zero_print(
            f"teacher {name}: trained here, unless {setting.store.root}/ has it (teacher.checkpoint=… brings your own)"
        )
        job = Pretraining(model, config, own, config.recipe.alone, config.seed, f"teacher {name}", setting)
        record = train_once(job)
        if before is None:
            bad = data.class_names(config.corrupt_classes)
            source = TRAINED + (f" with wrong labels for {', '.join(bad)}" if bad else "")
            record = record.changed(source=source, seen_validation="no")
        else:
            record = better_on_validation(model, config, setting, before, record)
        record = _held(model, config, data, setting, record)
    again = "measured before" if adapt is None and is_ready_made(config) else "reused from the store"
    how = again if record.training.reused else record.training.source
    weights = weights_hash(model)[:12]
    if record.head:  # that of a checkpoint is the same whatever the head
        weights = f"{body_hash(model)[:12]} without the fitted head, {weights} with it"
    rank_zero_print(f"teacher {name}: {setting.words(record.scores)} ({how}); weights {weights}")
    warn_if_weak(name, record, setting, model.info.outputs)
    return record


def _held(model: Model, config: ModelConfig, data: DataModule, setting: Setting, record: Record) -> Record:
    """The record of a teacher that is frozen now, measured again where it is held in another type."""
    if not config.dtype:
        return record
    model.hold_in(config.dtype)
    held = measure(model, data, setting)
    return record.changed(held.folder, held.scores)


def teacher_data(data: DataModule, config: ModelConfig, *, repeated: bool = True) -> DataModule:
    """The training data of a teacher that is trained here.

    Of `teacher.samples` samples the labelled ones (`teacher.labelled`, by default the student's share: a teacher with
    more labels would pass them on), with wrong labels for `teacher.corrupt_classes`.

    Raises UserError for a number or a class that the data do not have, or wrong labels for a ready-made teacher.
    """
    if config.corrupt_classes and is_ready_made(config):
        raise UserError(
            "teacher.corrupt_classes trains a teacher with wrong labels, and a ready-made one is not trained: "
            "teacher.checkpoint=null teacher.pretrained=false, or teacher.corrupt_classes=null"
        )
    if data.canaries and is_ready_made(config) and not config.adapt:
        raise UserError(
            "data.canaries are read by a teacher that is trained here, and this one is ready-made: data.canaries=0"
        )
    if config.adapt and not is_ready_made(config):
        raise UserError(
            f"teacher.adapt={config.adapt} goes on with ready-made weights, and this teacher is trained here from others: "
            f"teacher.adapt=null, or teacher.checkpoint=…"
        )
    own = data.with_samples(config.samples).labelled_only(config.labelled, repeated=repeated)
    return own.with_wrong_labels(config.corrupt_classes).of_teacher()


def is_ready_made(config: ModelConfig) -> bool:
    """Whether a checkpoint or pretrained weights are there already."""
    return bool(config.checkpoint or config.pretrained)
