"""Puts the teacher behind the cache of its outputs, if strategy and teacher allow one."""

import math
from itertools import product
from pathlib import Path

import torch

from distillab.core.configuration import RunConfig
from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.data.module import DataModule
from distillab.models.feature_info import FeatureInfo
from distillab.models.fingerprint import preprocessing, structure, weights_hash
from distillab.models.folding import foldable
from distillab.strategies.strategy import Strategy
from distillab.teachers.base import TeacherSource
from distillab.teachers.cache import MEND, TeacherCache
from distillab.teachers.cached import CachedTeacher
from distillab.teachers.frozen import FrozenTeacher
from distillab.teachers.imported import ImportedTeacher
from distillab.teachers.layout import Layout
from distillab.teachers.replayed import ReplayedTeacher
from distillab.teachers.token_layout import TokenLayout

STORED = {"logits", "embedding"}
LAYERS = {"head", "norms"}  # parts of the network, which need no forward pass


def with_cache(
    teacher: TeacherSource | None, strategy: Strategy, data: DataModule, config: RunConfig
) -> TeacherSource | None:
    """The trained teacher behind its cache, or, with a printed reason, without one; `data`: configured for the fit.

    Raises UserError for a wrong setting, or `require` without a possible cache.
    """
    settings, trainer, needs = config.cache, config.trainer, strategy.needs("teacher")
    if settings.mode == "never" or not needs or teacher is None or isinstance(teacher, ImportedTeacher):
        return teacher
    require = settings.mode == "require"
    if require and data.writing is not None:
        raise UserError(
            "cache.mode=require, but the teacher must read what the student writes (data.on_policy): cache.mode=auto"
        )
    if live := _reason(teacher, strategy, settings.top_k):
        if require:
            raise UserError(f"cache.mode=require, but {live}; set cache.mode=auto")
        rank_zero_print(f"the teacher runs live: {live}")
        return teacher
    model = teacher.model
    key = {
        "weights": weights_hash(model),
        "structure": structure(model),
        "about": preprocessing(model),
        "spec": str(teacher.info),
        "data": data.configure(data.batch_size, data.seed).teacher_side.fingerprint,  # of one view: the weak one
        "files": data.collection.files_stamp,
        "precision": config.recipe.precision,
        "channels_last": trainer.channels_last,
    }
    if foldable(model, needs):
        key["folded"] = True
    if trainer.compile == "both":
        key["compiled"] = True
    if (device := device_kind(trainer.accelerator)) != "cpu":
        key["device"] = device
    layout, folder = cache_layout(config, teacher.info, strategy), Path(config.paths.store) / "cache"
    limit = math.inf if settings.limit_gb is None else 1e9 * settings.limit_gb
    samples, strong = data.sizes["train"], {"data": data.fingerprint}
    how = {"samples": samples, "limit": limit, "strong": strong, "together": data.views_per_decode}
    cache = TeacherCache(folder, key, layout, **how)
    _look_ahead(cache, strategy, data, config)
    return CachedTeacher(model, cache, require)


def replayed(
    teacher: TeacherSource | None, strategy: Strategy, data: DataModule, config: RunConfig
) -> ReplayedTeacher | None:
    """The teacher, for as long as its steps are timed, behind a cache that is never written; None where none is possible."""
    needs = strategy.needs("teacher")
    if teacher is None or not needs or data.writing is not None or _reason(teacher, strategy, config.cache.top_k):
        return None
    layout = cache_layout(config, teacher.info, strategy)
    nowhere = Path(config.paths.store) / "cache" / "timed"
    cache = TeacherCache(nowhere, {}, layout, samples=data.sizes["train"], limit=math.inf, strong={"strong": True})
    return ReplayedTeacher(teacher.model, cache)


def cache_layout(config: RunConfig, teacher: FeatureInfo, strategy: Strategy) -> Layout:
    """What is stored of each sample; raises UserError if it does not suit the teacher's outputs, or the strategy."""
    needs = strategy.needs("teacher")
    embedding = teacher.embedding if "embedding" in needs else None
    kept, first = config.cache, (teacher.outputs, embedding, config.cache.dtype, config.cache.top_k)
    if teacher.positions is None:
        return Layout(*first)
    asked = {name: getattr(term, "temperature", 1.0) for name, term in strategy.terms.items() if term.pools}
    held = tuple(sorted({1.0, *asked.values()} if kept.temperatures is None else {*map(float, kept.temperatures)}))
    if kept.draws is not None:
        _check_draws(strategy)
    for name, temperature in asked.items() if kept.top_k is not None else ():
        if temperature not in held:
            listed = ",".join(f"{one:g}" for one in (*held, temperature))
            raise UserError(
                f"strategy.{name} reads the teacher at temperature {temperature:g}, and the cache keeps what its top_k "
                f"leaves over for {', '.join(f'{one:g}' for one in held)}: cache.temperatures=[{listed}]"
            )
    for name, term in strategy.terms.items() if kept.top_k is not None and kept.tail != "bucket" else ():
        if term.needs_tail:
            raise UserError(
                f"strategy.{name} weighs outputs by the student, who would flee to those that cache.tail={kept.tail} leaves "
                f"out: cache.tail=bucket, or cache.top_k=null"
            )
    held = held if kept.draws is None else (1.0,)
    how = {"temperatures": held, "convention": kept.tail}
    return TokenLayout(*first, positions=teacher.positions, draws=kept.draws, **how)


def _check_draws(strategy: Strategy) -> None:
    """Raise UserError where a term makes more of random draws than a mean: it would be biased."""
    for name, term in strategy.terms.items():
        linear = term.linear and getattr(term, "temperature", 1.0) == 1.0
        if not linear and any("teacher." in need for need in term.needs):
            raise UserError(
                f"cache.draws stands for the teacher without bias in the forward KL at temperature 1 alone, and "
                f"strategy.{name} is another: cache.draws=null cache.top_k=64, or strategy=kd strategy.kd.temperature=1"
            )


def device_kind(accelerator: str) -> str:
    """The type of device that runs the teacher: another one rounds otherwise."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator == "cpu" or found is None else found.type


def _look_ahead(cache: TeacherCache, strategy: Strategy, data: DataModule, config: RunConfig) -> None:
    """Print that the views of the fit exceed the limit; with `require`, raise UserError if one is missing entirely."""
    epochs = strategy.whole(data.epochs(config.recipe, config.trainer.limit_train_batches))
    if epochs % data.views_per_decode:
        rank_zero_print(
            f"{epochs} epochs are no multiple of data.views_per_decode={data.views_per_decode}: the last ones show a part of "
            f"the images, so that other seeds find a part of their views in the teacher cache"
        )
    views = list(product(range(data.view_numbers(epochs)), range(strategy.num_views)))
    lacking = sum(not cache.has(*view) for view in views)
    if config.cache.mode == "require" and lacking and not strategy.phases:  # some phases may not read the teacher
        raise UserError(
            f"cache.mode=require, and the teacher cache lacks {lacking} of the {len(views)} views that "
            f"recipe.{'epochs' if config.recipe.epochs else 'steps'}={config.recipe.length} reads; fill it with cache.mode=auto"
        )
    if config.cache.mode == "require" or not lacking:
        return
    needed, taken = lacking * cache.layout.bytes(cache.samples), cache.bytes_taken()
    if taken + needed > cache.limit:
        rank_zero_print(
            f"{lacking} views of this run take up to {needed / 1e9:.2f} GB more in the teacher cache, of whose "
            f"cache.limit_gb={cache.limit / 1e9:g} {taken / 1e9:.2f} are taken: for the others the teacher runs live; "
            f"raise it, delete what is not needed any more in {cache.root}, or set {MEND}"
        )


def _reason(teacher: TeacherSource, strategy: Strategy, top_k: int | None) -> str | None:
    """Why the teacher cannot be replayed; None if it can."""
    if type(teacher) is not FrozenTeacher:
        return "only the outputs of one teacher that does not change can be cached"
    for name, term in strategy.terms.items():
        own = {need.removeprefix("teacher.") for need in term.needs if need.startswith("teacher.")}
        if beyond := sorted(own - STORED - LAYERS):
            return f"strategy.{name} reads teacher.{beyond[0]}, and the cache holds logits and embeddings"
        if top_k is not None and top_k < term.largest:
            return (
                f"strategy.{name} compares the {term.largest} largest probabilities one by one, and cache.top_k={top_k} keeps "
                f"fewer (cache.top_k={term.largest} keeps them and what the others hold, cache.top_k=null all)"
            )
    return None
