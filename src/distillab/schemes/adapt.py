"""Adapts a trained language model to a domain, by adapters or as a whole, and measures what it learned and forgot."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distillab.core.adaptation import Adapted, OnText
from distillab.core.configuration import LoraConfig
from distillab.core.files import writable
from distillab.core.output import rank_zero_print
from distillab.core.recipe import Recipe
from distillab.data.text.datamodule import TextData
from distillab.evaluation.text_roles import bits
from distillab.evaluation.token_scores import bits_per_byte, by_document
from distillab.export.adapter import save_adapter
from distillab.export.language_model import save_language_model
from distillab.models.causal_lm import CausalLM, pretrained_lm
from distillab.models.lora import add_lora
from distillab.schemes.setting import Setting
from distillab.strategies.ce import CrossEntropy
from distillab.strategies.kd import KD
from distillab.teachers.base import TeacherSource
from distillab.teachers.frozen import FrozenTeacher
from distillab.teachers.unadapted import Unadapted
from distillab.training.fit import fit
from distillab.training.module import Distillation


@dataclass(frozen=True)
class Way:
    """How a model is adapted: by adapters of this rank, or as a whole; near what it was by so strong an anchor."""

    lora: LoraConfig | None = None
    anchor: float | None = None

    @property
    def name(self) -> str:
        """For people."""
        how = f"LoRA, rank {self.lora.rank}" if self.lora else "full fine-tuning"
        return how + (f" + anchor {self.anchor:g}" if self.anchor else "")

    @property
    def folder(self) -> str:
        """Its folder in that of the command."""
        return ("lora" if self.lora else "full") + ("_anchor" if self.anchor else "")


@dataclass
class Domain:
    """A base model, the text that it is adapted to, and the text that it knew (None: not looked at)."""

    base: str  # its folder
    name: str
    data: TextData
    old: TextData | None
    setting: Setting
    recipe: Recipe
    seed: int

    def __post_init__(self) -> None:
        self.before: dict[str, Tensor] = {}  # the base model's token scores, by the name of `texts`

    @property
    def texts(self) -> dict[str, TextData]:
        """The test texts that are looked at."""
        return {"new": self.data} | ({"old": self.old} if self.old is not None else {})

    def model(self) -> CausalLM:
        """The base model, fresh from its folder."""
        info = self.data.info
        return CausalLM(pretrained_lm(self.base), info.vocabulary, info.length, self.name)

    def unadapted(self) -> Adapted:
        """What the base model knows of both texts."""
        return Adapted(name=f"{self.name} as it was", folder=self.base, **self._measured(self.model()))

    def adapted(self, way: Way, directory: Path) -> Adapted:
        """Adapt the base model one way, or go on where that was stopped; what is made lies in `directory`."""
        torch.manual_seed(self.seed)
        model = self.model()
        adapters = add_lora(model.net, **vars(way.lora), seed=self.seed) if way.lora else None
        module = self._module(model, adapters, way)
        trained = sum(parameter.numel() for parameter in module.trainable)
        ready = self.setting.configured(self.data, self.recipe, self.seed)
        how = {"recipe": self.recipe, "protocol": self.setting.protocol, "trainer": self.setting.trainer}
        found = fit(module, ready, **how, directory=directory / "checkpoints", title=f"{self.name} {way.name}")
        module.release()
        about: dict[str, Any] = {"folder": str(directory / "model")}
        with writable(directory, "paths.runs=…"):
            if adapters is None:
                save_language_model(model, self.data.info.tokenizer, directory / "model")
            else:
                apart = save_adapter(model, adapters, self.base, self.data.info.tokenizer, directory)
                about = {"folder": str(directory / "merged"), "adapter": str(directory / "adapter")}
                about |= {"reloaded": apart[0], "merged": apart[1]}
                read_back, plain = ("equal" if each == 0 else f"within {each:.1e}" for each in apart)
                rank_zero_print(
                    f"  {way.name}  adapter read back: logits {read_back}; merged into {about['folder']}: {plain}"
                )
        told = {"trained": trained, "seconds": found.total_seconds, "epoch": found.epoch}
        return Adapted(name=way.name, **told, **about, **self._measured(model))

    def _module(self, model: CausalLM, adapters: Any, way: Way) -> Distillation:
        terms: dict[str, Any] = {"ce": CrossEntropy(weight=1.0)}
        teacher: TeacherSource | None = None
        if way.anchor:
            terms["kd"] = KD(weight=way.anchor, temperature=1.0)
            teacher = FrozenTeacher(copy.deepcopy(model)) if adapters is None else Unadapted(model, adapters)
        return Distillation(model, teacher, terms, self.setting.task, recipe=self.recipe, seed=self.seed)

    def _measured(self, model: CausalLM) -> dict[str, OnText]:
        """Bits per byte on the test texts; of all models but the first also the change, by document."""
        found = {}
        for name, data in self.texts.items():
            scores, _ = self.setting.task.predictions(model, data, "test", self.setting.device)
            about = {"bits_per_byte": bits_per_byte(scores), "documents": len(by_document(scores)[0])}
            if name in self.before:
                change = about["bits_per_byte"] - bits_per_byte(self.before[name])
                test = bits(scores, self.before[name])
                about |= {"change": change, "low": test and test.low, "high": test and test.high}
            self.before.setdefault(name, scores)
            found[name] = OnText(**about)
        return found
