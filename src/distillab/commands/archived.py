"""`distillab cache check`, `export` and `import archive=…`: the cached outputs of a teacher of images."""

import copy
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.core.configuration import RunConfig
from distillab.core.errors import UserError, first_few
from distillab.core.output import is_quiet, quietly, rank_zero_print
from distillab.core.timer import Timer
from distillab.training.startup import import_quietly

if TYPE_CHECKING:
    from distillab.commands.steps import Steps
    from distillab.models.new_head import Probe
    from distillab.teachers.archive import Moved
    from distillab.teachers.base import TeacherSource
    from distillab.teachers.cached import CachedTeacher
    from distillab.teachers.manifest import Manifest

PLACES = ("_target_", "name", "root", "cache_dir", "memory_budget", "workers")  # of the data: not what they are


def check(config: RunConfig, share: float, tolerance: float | None) -> None:
    """Run the teacher again on a share of what is cached; UserError where an output differs by more than the tolerance."""
    made, source = _cached(config)
    from distillab.schemes.cache_check import TOLERANCE, TOLERANCE_OF_HALF, compare

    exact = config.recipe.precision in ("32-true", "64-true")
    most = tolerance if tolerance is not None else TOLERANCE if exact else TOLERANCE_OF_HALF
    found, folder = compare(source, made.data, config, made.run.setting.task, share=share), _folder(source)
    if found.damaged:
        raise UserError(f"{first_few(list(map(str, found.damaged)))} cannot be read whole: training makes them again")
    if not found.samples:
        raise UserError(
            f"{folder} holds no outputs of this teacher for these data: python train.py with the same words"
        )
    rank_zero_print(
        f"{found.samples:,} of {found.stored:,} outputs in {found.views} views were computed again: the largest difference "
        f"is {found.largest:.3g}, or {found.relative:.3g} of the larger of 1 and the number ({found.where})",
        result=True,
    )
    if found.relative > most:
        raise UserError(
            f"the cache differs from its teacher by {found.relative:.3g}, and tolerance={most:g} is allowed: delete {folder}, "
            f"which is filled again, or allow more with tolerance={found.relative * 1.1:.2g}"
        )


def export(config: RunConfig, out: Path) -> None:
    """Write all published views to one file."""
    made, source = _cached(config)
    from distillab.schemes.adapted import fitted_head
    from distillab.teachers.archive import export_cache

    record = made.records.get("teacher")
    head = record and fitted_head(made.scheme.model, record)
    moved = export_cache(source.cache, _manifest(made, source), out, kinds=made.data.num_views, head=head)
    size = out.stat().st_size / 1e6
    rank_zero_print(f"{out}: {moved.samples:,} outputs in {moved.views} views, {size:,.1f} MB", result=True)


def take(config: RunConfig, archive: Path) -> None:
    """Import an exported file. UserError where it belongs to another teacher, other data or other views."""
    made = _prepared(config)
    from distillab.teachers.archive import import_cache

    head = _fitting(archive, made)
    with _kept(head, archive, made):
        with quietly(is_quiet() or made.scheme.name == "offline"):  # what it says was said, or is known there
            source = _ready(made)
        moved = import_cache(archive, source.cache, _manifest(made, source), kinds=made.data.num_views)
    rank_zero_print(_outcome(moved, _folder(source)), result=True)


def _fitting(archive: Path, made: "Steps") -> "Probe | None":
    """The head that was fitted for the teacher elsewhere, and is needed here; None where there is none.

    Raises UserError where the outputs are of something else, as far as that shows before the teacher is looked for in the
    store: the weights of one that is trained here, or whose head was fitted here, are not known yet.
    """
    from distillab.models.fingerprint import code
    from distillab.schemes.adapted import adaptation
    from distillab.schemes.cache import with_cache
    from distillab.schemes.pretrain import is_ready_made
    from distillab.teachers.archive import misfit, read_head, read_manifest
    from distillab.teachers.frozen import FrozenTeacher
    from distillab.teachers.manifest import differences
    from distillab.training.linear_probe import linear_head

    theirs, has_head = read_manifest(archive)
    run, config, wrong, head = made.run, made.run.config.teacher, None, None
    if made.scheme.model is None or made.scheme.name != "offline" or config.shard:
        return None
    model = copy.deepcopy(made.scheme.model)
    if fitted := adaptation(model, config) in ("head", "none"):
        layer = linear_head(model)
        try:
            head = read_head(archive, layer.out_features, layer.in_features)
        except UserError as error:
            wrong = error
        if head is not None:
            head.put(layer)
    if config.dtype:
        model.hold_in(config.dtype)
    known = head is not None if fitted else is_ready_made(config) and config.adapt != "all"
    # Own code is known by its outputs, and so by the weights.
    unknown = () if known else ("weights", "structure") if code(model) else ("weights",)
    source = with_cache(FrozenTeacher(model), run.strategy, made.data, run.config)
    kinds = min(made.data.num_views, len(theirs.keys))
    found = differences(_manifest(made, _checked(source)), theirs, kinds, unknown=unknown)
    if found and has_head and not fitted:
        found.append("a head was fitted there: teacher.adapt=head")
    if found:
        raise misfit(archive, found)
    if wrong is not None:
        raise wrong
    return head


@contextmanager
def _kept(head: "Probe | None", archive: Path, made: "Steps") -> Iterator[None]:
    """A block in which the store has a head that was fitted for the teacher elsewhere; it stays where the block succeeds.

    Raises UserError where another was fitted here.
    """
    import torch

    from distillab.schemes.adapted import fitted_head, with_new_head
    from distillab.schemes.pretrain import teacher_data

    if head is None:
        yield
        return
    model, run = copy.deepcopy(made.scheme.model), made.run
    data = teacher_data(run.data.teacher_side, run.config.teacher, repeated=False)
    if (shown := data.labelled_only(repeated=False).sizes["train"]) != head.samples:
        what = f"its head was fitted to {head.samples:,} labelled images there, and these words show {shown:,}"
        raise UserError(f"{archive}: {what}: data.labelled=… and teacher.labelled=… of the export")
    record = with_new_head(model, run.config.teacher, data, run.setting, given=head)
    try:
        if not torch.equal(fitted_head(model, record).weights, head.weights):
            mend = f"delete {record.folder} to take that one"
            raise UserError(f"{archive} has another head for {model.info.name} than was fitted here: {mend}")
        yield
    except BaseException:
        if not record.training.reused:
            shutil.rmtree(record.folder, ignore_errors=True)
        raise


def _outcome(moved: "Moved", folder: Path) -> str:
    known = f", {moved.known:,} were there before" if moved.known else ""
    others = f" ({moved.others:,} of them with other numbers, which stay)" if moved.others else ""
    return f"{moved.samples:,} outputs in {moved.views} views filed in {folder}{known}{others}"


def _cached(config: RunConfig) -> tuple["Steps", "CachedTeacher"]:
    """A run that is ready for its fit, and its cached teacher, of which nothing is trained. UserError where there is none."""
    made = _prepared(config)
    return made, _ready(made)


def _prepared(config: RunConfig) -> "Steps":
    """A run whose data are read, and whose networks are built. UserError where it is of no images."""
    import_quietly(config.trainer.accelerator)
    from distillab.commands import steps
    from distillab.data.images.datamodule import ImageData

    config = replace(config, cache=replace(config.cache, mode="auto"))
    parts = steps.check(config)
    if not isinstance(parts.data, ImageData):
        raise UserError(
            "`distillab cache check`, `export` and `import archive=…` are for images: data=folder data.root=…"
        )
    return steps.prepare(config, parts, Timer())


def _ready(made: "Steps") -> "CachedTeacher":
    """Its cached teacher. UserError where there is none, or it is not in the store."""
    from distillab.commands import steps

    made.run.setting.store.only_kept = True
    steps.ready(made)
    return _checked(made.module and made.module.teacher)


def _checked(source: "TeacherSource | None") -> "CachedTeacher":
    from distillab.teachers.cached import CachedTeacher

    if not isinstance(source, CachedTeacher):
        raise UserError("these words have no teacher whose outputs are cached (a line above says why): strategy=kd")
    return source


def _folder(source: "CachedTeacher") -> Path:
    return source.cache.root / source.cache.key


def _manifest(made: "Steps", source: "CachedTeacher") -> "Manifest":
    from distillab.teachers.manifest import Manifest

    data, collection = dict(_flat(made.run.config.plain["data"])), made.data.collection
    words = {name: value for name, value in data.items() if name not in PLACES}
    about = {"dataset": collection.dataset, "decoder": collection.decoder}
    return Manifest.about(source.cache, teacher=source.info.name, data=words, **about)


def _flat(words: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """The words of a group and of those inside it by their dotted names."""
    found: list[tuple[str, Any]] = []
    for name, value in words.items():
        found += _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else [(f"{above}{name}", value)]
    return found
