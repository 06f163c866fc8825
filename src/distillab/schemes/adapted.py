"""A ready-made teacher whose weights tell other classes apart: what it needs for these data."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distillab.core.configuration import ModelConfig
from distillab.core.distributed import rank
from distillab.core.errors import UserError
from distillab.core.files import writable
from distillab.core.output import rank_zero_print
from distillab.core.result_parts import Training
from distillab.data.module import DataModule
from distillab.export.safetensors import save_model
from distillab.models.checkpoint import load_weights, read_weights
from distillab.models.fingerprint import code, preprocessing, weights_hash
from distillab.models.model import Model
from distillab.models.new_head import Probe
from distillab.schemes.measure import measure, predictions, scores
from distillab.schemes.record import FittedHead, Record
from distillab.schemes.setting import Setting
from distillab.schemes.store import NETWORKS, PLACE
from distillab.strategies.strategy import Strategy
from distillab.training.finite import OTHER_TEACHER
from distillab.training.linear_probe import fit_head, linear_head

FITTED = ", with a head fitted "  # and where, in the source of a teacher's weights


def adaptation(model: Model, config: ModelConfig) -> str | None:
    """How a teacher is adapted to the data: as the config says, else by a new head where its own tells other classes."""
    return config.adapt or ("head" if model.new_head else None)


def check_head_is_needless(config: ModelConfig, strategy: Strategy, data: DataModule) -> None:
    """Raise UserError where something needs the logits of a teacher of `adapt=none`, which has none for these classes."""
    if config.adapt != "none":
        return
    if strategy.needing_head:
        what = f"strategy.{strategy.needing_head[0]} needs them"
        other = "choose a method that reads features alone, e.g. strategy=hint"
    elif data.teacher_answers:
        what = "they stand in for the labels that are hidden"
        other = "give all labels, data.labels=all data.labelled=1.0"
    else:
        return
    raise UserError(
        f"teacher.adapt=none leaves the teacher without logits for these classes, and {what}: teacher.adapt=head gives it "
        f"a head, or {other}"
    )


def with_new_head(
    model: Model, config: ModelConfig, data: DataModule, setting: Setting, *, given: Probe | None = None
) -> Record:
    """Fit a teacher's head on its frozen features, or take it from the store, else the `given` one; the record tells how.

    `data` are the teacher's own. Raises UserError where its features or answers are not finite.
    """
    name = model.info.name
    where = config.checkpoint or "pretrained weights"
    judged = ", by which it is judged; no method reads it" if config.adapt == "none" else ""
    why = f"{judged} ({model.new_head})"
    key = {
        "head of": weights_hash(model),
        "about": preprocessing(model),
        "spec": model.info.key(),
        "data": data.fingerprint,
        **({"code": own} if (own := code(model)) else {}),
    }

    def make(folder: Path) -> dict[str, Any]:
        if given is None:
            rank_zero_print(f"teacher {name}: a head is fitted on its frozen features{why}")
        probe = given or fit_head(model, data, setting.device)
        probe.put(linear_head(model))
        place = "here" if given is None else "elsewhere"
        source = f"{where}{FITTED}{place} on {probe.samples:,} samples, weight decay {probe.decay:g}"
        head = FittedHead(data=data.fingerprint, samples=probe.samples, decay=probe.decay)
        found = Record(training=Training(seconds=probe.seconds, source=source, seen_validation="unknown"), head=head)
        if rank == 0:
            plain = {k: v for k, v in config.plain.items() if k != "classes"}
            with writable(folder, PLACE):
                save_model(model, folder / "model.safetensors", plain, data.info.classes)
            test = predictions(model, data, setting, str(folder), mend=OTHER_TEACHER)
            found = found.changed(scores=scores(model, data, setting, test, mend=OTHER_TEACHER))
        return found.model_dump()

    folder, kept, reused = setting.store.once(NETWORKS, name, key, make)
    if reused:
        predictions(model, data, setting, str(folder), mend=OTHER_TEACHER)  # an earlier version kept any
        if given is None:
            rank_zero_print(f"teacher {name}: the head on its frozen features is reused from the store{why}")
    file = folder / "model.safetensors"  # read by every process, so that all have one head
    load_weights(model.net, read_weights(file, "paths.store")[0], name, str(file), key="paths.store")
    record = Record.model_validate(kept)
    # The same weights may have had another path when the head was fitted.
    source = f"{where}{FITTED}{(record.training.source or '').rpartition(FITTED)[2]}"
    record = record.changed(str(folder), reused=reused, source=source)
    return record.with_head(record.head.model_copy(update={"file": str(file)})) if record.head else record


def fitted_head(model: Model, record: Record) -> Probe | None:
    """The head that `with_new_head` gave a teacher, as the store has it; None where it has none of it."""
    if record.head is None or record.head.file is None:
        return None
    weights, head = read_weights(record.head.file, "paths.store")[0], model.info.head
    whole = torch.cat([weights[f"{head}.weight"], weights[f"{head}.bias"][:, None]], 1)
    return Probe(whole, record.head.samples, record.head.decay, record.training.seconds)


def before_training(
    model: Model, config: ModelConfig, data: DataModule, labelled: DataModule, setting: Setting
) -> tuple[Record, dict[str, Tensor]]:
    """What a ready-made teacher is worth before all of it is trained, which is printed, and its weights by then.

    It is given a new head where it needs one, by its `labelled` data.
    """
    record = with_new_head(model, config, labelled, setting) if model.new_head else measure(model, data, setting)
    rank_zero_print(f"teacher {model.info.name}: {setting.words(record.scores)} before teacher.adapt={config.adapt}")
    return record, {name: value.detach().cpu().clone() for name, value in model.net.state_dict().items()}


def better_on_validation(
    model: Model, config: ModelConfig, setting: Setting, before: tuple[Record, dict[str, Tensor]], after: Record
) -> Record:
    """The record of a teacher that was trained as a whole; where it was better on validation `before`, it is as it was then.

    The seconds and the curves are those of its training in any case, with those of its head; epoch 0 is the state before it.
    """
    (record, weights), task, where = before, setting.task, config.checkpoint or "pretrained weights"
    if record.head:
        fit, took = after.training, record.training.seconds
        after = after.changed(seconds=fit.seconds + took, time=fit.time and fit.time | {"head": took})
    was, became = (one.scores.get("validation") for one in (record, after))
    worse = was is not None and (became < was if task.higher_is_better else became > was)
    if not worse:
        source = f"{where}, adapted here; before: {setting.words(record.scores)}"
        return after.changed(source=source, seen_validation="unknown")
    model.net.load_state_dict(weights)
    told = (
        f"fine-tuning did not help: {task.label} {task.text(was)} on validation before, {task.text(became)} after; "
        + ("the head alone is kept" if record.head else "the weights are kept as they came")
    )
    rank_zero_print(f"teacher {model.info.name}: {told}")
    source = f"{record.training.source or where}; {told}"
    kept = after.changed(record.folder, record.scores, source=source, seen_validation="unknown", epoch=0)
    return kept.with_head(record.head) if record.head else kept
