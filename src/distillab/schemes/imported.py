"""The student learns from the scores of a teacher that is served elsewhere."""

import math
from pathlib import Path

from distillab.core.allowed import Words
from distillab.core.configuration import RunConfig
from distillab.core.errors import UserError
from distillab.data.module import DataModule
from distillab.data.text.datamodule import TextData
from distillab.data.text.requests import scored
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.base import Run, Scheme
from distillab.schemes.cache import cache_layout
from distillab.strategies.base import Term
from distillab.strategies.strategy import Strategy
from distillab.teachers.base import TeacherSource, refuse_beyond_logits
from distillab.teachers.cache import TeacherCache
from distillab.teachers.imported import SERVED, ImportedTeacher, imported_cache
from distillab.teachers.token_layout import TokenLayout


class Imported(Scheme):
    """One teacher whose log-probabilities `distillab cache import` has filed under a name; its weights are not here."""

    name = "imported"

    def __init__(self, teacher: str) -> None:
        super().__init__()
        self.called = Words().check(teacher, "scheme.teacher", "my_teacher")

    def prepare(self, run: Run, student: Model) -> FeatureInfo:
        """Find the scores; UserError where they are not complete, or a term reads what they do not tell."""
        self.check(run)
        data = text_of(run.data)
        refuse_beyond_logits(run.strategy.needs("teacher"), f"scheme={self.name}")
        for name, term in run.strategy.terms.items():
            if "teacher.logits" in term.needs and not (term.rowwise and type(term).forward is Term.forward):
                raise UserError(
                    f"strategy.{name} reads the teacher at all positions, and its scores are of the learned tokens alone; "
                    f"choose a loss of each token, e.g. strategy=kd, or scheme=offline"
                )
        if run.data.writing is not None:
            raise UserError(
                "scheme=imported has no teacher that could read what the student writes: data.on_policy=0, or scheme=offline"
            )
        layout = imported_layout(run.config, run.strategy, student.info)
        cache = cache_of(run.config, data, self.called, layout)
        present = cache.view(0).present
        if not present.all():
            raise UserError(
                f"the store has the scores of {self.called} for {int(present.sum())} of the {len(present)} blocks that this "
                f"text, its split, tokenizer, data.length, data.samples, cache.top_k={layout.top_k or 'null'} and "
                f"cache.dtype={layout.dtype} make: "
                f"python -m distillab.cache requests, then import, with the words of this command ({SERVED})"
            )
        self.teacher = ImportedTeacher(self.called, cache, layout, data.training_blocks.ids)
        self.parent = self.called
        return self.teacher.info

    def source(self, student: Model) -> TeacherSource:
        """The scores as a teacher."""
        return self.teacher


def text_of(data: DataModule) -> TextData:
    """The data, where they are text; else UserError."""
    if not isinstance(data, TextData):
        raise UserError("scheme=imported and `distillab cache` are for text: data=text data.path=…, or scheme=offline")
    return data


def imported_layout(config: RunConfig, strategy: Strategy, info: FeatureInfo) -> TokenLayout:
    """What is kept of each block; UserError where a server's k tokens cannot tell what the strategy reads."""
    if config.cache.draws is not None:
        raise UserError("a server tells the likeliest tokens, and draws none: cache.draws=null cache.top_k=64")
    layout = cache_layout(config, info, strategy)
    if layout.top_k is not None and layout.temperatures != (1.0,):
        others = ", ".join(f"{one:g}" for one in layout.temperatures if one != 1)
        raise UserError(
            f"a server tells how much its top_k leave over at temperature 1, and {others} is asked for: "
            f"strategy.kd.temperature=1 cache.temperatures=null, or all tokens with cache.top_k=null"
        )
    return layout


def cache_of(config: RunConfig, data: TextData, teacher: str, layout: TokenLayout) -> TeacherCache:
    """The cache of a teacher's scores of the training text."""
    limit = math.inf if config.cache.limit_gb is None else 1e9 * config.cache.limit_gb
    root, samples = Path(config.paths.store) / "cache", data.sizes["train"]
    return imported_cache(root, teacher, scored(data), layout, samples=samples, limit=limit)
