"""A ready-made teacher whose weights tell other classes apart: what it needs for these data."""

from pathlib import Path
from typing import Any

from distillab.core.configuration import ModelConfig
from distillab.core.distributed import rank
from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.core.result_parts import Training
from distillab.data.module import DataModule
from distillab.export.safetensors import save_model
from distillab.models.checkpoint import load_weights, read_weights
from distillab.models.fingerprint import code, preprocessing, weights_hash
from distillab.models.model import Model
from distillab.schemes.measure import predictions, scores
from distillab.schemes.record import Record
from distillab.schemes.setting import Setting
from distillab.schemes.store import NETWORKS
from distillab.strategies.strategy import Strategy
from distillab.training.linear_probe import fit_head


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


def with_new_head(model: Model, config: ModelConfig, data: DataModule, setting: Setting) -> Record:
    """Fit a teacher's head on its frozen features, or take it from the store; the record tells how.

    `data` are the teacher's own.
    """
    name = model.info.name
    judged = ", by which it is judged; no method reads it" if config.adapt == "none" else ""
    rank_zero_print(f"teacher {name}: a head is fitted on its frozen features{judged} ({model.new_head})")
    key = {
        "head of": weights_hash(model),
        "about": preprocessing(model),
        "spec": model.info.key(),
        "data": data.fingerprint,
        **({"code": own} if (own := code(model)) else {}),
    }

    def make(folder: Path) -> dict[str, Any]:
        probe = fit_head(model, data, setting.device)
        where = config.checkpoint or "pretrained weights"
        source = f"{where}, with a head fitted here on {probe.samples:,} samples, weight decay {probe.decay:g}"
        found = Record(training=Training(seconds=probe.seconds, source=source, seen_validation="unknown"))
        if rank == 0:
            plain = {k: v for k, v in config.plain.items() if k != "classes"}
            save_model(model, folder / "model.safetensors", plain, data.info.classes)
            test = predictions(model, data, setting, str(folder))
            found = found.changed(scores=scores(model, data, setting, test))
        return found.model_dump()

    folder, kept, reused = setting.store.once(NETWORKS, name, key, make)
    file = folder / "model.safetensors"  # read by every process, so that all have one head
    load_weights(model.net, read_weights(file, "paths.store")[0], name, str(file), key="paths.store")
    return Record.model_validate(kept).changed(str(folder), reused=reused)
