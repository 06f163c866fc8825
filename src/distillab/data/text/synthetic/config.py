"""The keys of scripts/generate.py: who writes, from what, how, and what is kept. Parsed once."""

import json
import os
from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Any, ClassVar, Self

from pydantic import model_validator

from distillab.core.allowed import Amount, AmountOrNone, Choice, Count, CountOrNone, Flag, Range
from distillab.core.configuration import Seed, Text, TextOrNone
from distillab.core.errors import UserError
from distillab.core.group import Group, group

ENDPOINT = "endpoint"  # the `teacher` that is a server
TOPIC = "{topic}"
Share = Annotated[float | None, Range(0, high=1, null=True)]


@group
class Sampling(Group):
    """How a token is drawn."""

    PATH: ClassVar[str] = "sampling"
    temperature: Amount = 1.0  # 0 takes the most probable token
    top_p: Annotated[float, Range(above=0, high=1)] = 1.0  # the smallest set of tokens with this mass (1904.09751)
    max_new_tokens: Count = 256
    seed: Seed = 0


@group
class Filters(Group):
    """What a kept text must be; null switches a bound off."""

    PATH: ClassVar[str] = "filters"
    min_words: Annotated[int, Range(0, whole=True)] = 5
    max_words: CountOrNone = None
    max_repetition: Share = 0.3  # share of its n-grams that it repeats
    repetition_n: Count = 4
    min_perplexity: AmountOrNone = None  # of what the teacher wrote, under the teacher at temperature 1
    max_perplexity: AmountOrNone = None
    min_perplexity_quantile: Share = None  # of all texts of the root
    max_perplexity_quantile: Share = None
    duplicate_threshold: Annotated[float | None, Range(above=0, high=1, null=True)] = 0.8  # Jaccard similarity
    duplicate_n: Count = 5
    held_out: TextOrNone = None  # a file of text that no kept one may share an n-gram with
    held_out_n: Count = 13

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for of in ("words", "perplexity", "perplexity_quantile"):
            low, high = getattr(self, f"min_{of}"), getattr(self, f"max_{of}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"{{path}}.min_{of}={low:g} is above {{path}}.max_{of}={high:g}; set it lower")
        return self

    @property
    def perplexity(self) -> bool:
        """Whether texts are judged by perplexity."""
        bounds = (self.min_perplexity, self.max_perplexity, self.min_perplexity_quantile, self.max_perplexity_quantile)
        return any(bound is not None for bound in bounds)


@group
class EndpointConfig(Group):
    """An OpenAI-compatible server; its address and key come from the environment."""

    PATH: ClassVar[str] = "endpoint"
    model: TextOrNone = None  # as the server names it
    concurrency: Count = 8  # requests at once
    retries: Annotated[int, Range(0, whole=True)] = 5
    wait: Amount = 1.0  # seconds before the first retry, doubled for each further one
    timeout: Annotated[float, Range(above=0)] = 120.0  # seconds for one answer


@group
class Generation(Group):
    """One root of synthetic text."""

    teacher: Text  # a folder or a name on the hub, or `endpoint`
    out: Text  # the root
    source: Annotated[str, Choice("prompts", "topics", "bos", "documents")] = "prompts"
    file: TextOrNone = None  # of prompts, topics or documents
    template: Text = f"Write a short text about {TOPIC}."
    prefix_tokens: Count = 16  # of a document, from which the teacher goes on; words for an endpoint
    chat: Flag = False  # the prompt is a message of a user
    rows: CountOrNone = None  # null: one for each prompt
    shard_rows: Count = 500  # rows of a file; a killed command writes at most one again
    batch_size: Count = 32
    device: Annotated[str, Choice("auto", "cpu", "cuda", "mps")] = "auto"
    dtype: Annotated[str, Choice("float32", "bfloat16", "float16")] = "float32"
    use_cache: Flag = True  # the key-value cache
    price_per_hour: AmountOrNone = None  # of the machine
    quiet: Flag = False
    sampling: Sampling = field(default_factory=Sampling)
    filters: Filters = field(default_factory=Filters)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    command: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "bos" and self.rows is None:
            raise ValueError("source=bos has no prompts to count; set rows=…")
        if self.source == "bos" and self.chat:
            raise ValueError("source=bos has no message for chat=true; set chat=false or source=prompts")
        if self.source == "documents" and self.chat:
            raise ValueError("source=documents goes on with a text, which chat=true does not; set chat=false")
        if self.source != "bos" and self.file is None:
            raise ValueError(f"source={self.source} needs a file; set file=…, or source=bos")
        if self.source == "topics" and TOPIC not in self.template:
            raise ValueError(f'template must contain {TOPIC}, got "{self.template}"')
        if self.teacher == ENDPOINT and self.endpoint.model is None:
            raise ValueError("teacher=endpoint needs the name of a model; set endpoint.model=…")
        return self


def parse(words: Sequence[str]) -> Generation:
    """The config that words of the form `key=value` describe; raises UserError.

    A value is JSON where it can be (numbers, true, null), else text as it stands. `~` is the home folder.
    """
    given: dict[str, Any] = {}
    for word in words:
        path, sign, value = word.partition("=")
        *groups, key = path.split(".")
        node = given
        for name in groups:
            node = node.setdefault(name, {}) if isinstance(node, dict) else None
        if not sign or not key or not isinstance(node, dict):
            raise UserError(f'cannot read "{word}"; write key=value, e.g. rows=1000 or sampling.top_p=0.9')
        node[key] = _value(value)
    if given.pop("command", None) is not None:
        raise UserError("command is no key; remove it")
    return Generation.of(given | {"command": tuple(words)})


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return os.path.expanduser(text)


def described() -> str:
    """All keys with their defaults, one a line."""
    lines = []
    for name, one in Generation.__pydantic_fields__.items():
        kinds = {"sampling": Sampling, "filters": Filters, "endpoint": EndpointConfig}
        if name in kinds:
            lines += [f"  {name}.{key}={_spelled(inner)}" for key, inner in kinds[name].__pydantic_fields__.items()]
        elif name != "command":
            lines.append(f"  {name}={_spelled(one)}")
    return "\n".join(lines)


def _spelled(one: Any) -> str:
    if one.is_required():
        return "…"
    return one.default if isinstance(one.default, str) else json.dumps(one.default)
