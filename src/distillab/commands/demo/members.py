"""What the page shows of each network: who it is, and what it tells of an image or a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distillab.commands.predicting.images import Answer, answers, logits_of
from distillab.commands.predicting.networks import Network, RunNetworks
from distillab.commands.predicting.texts import Told, told
from distillab.core.errors import UserError
from distillab.core.result import Role
from distillab.core.result_parts import STEADY
from distillab.data.module import DataModule
from distillab.evaluation.efficiency import parameters, steady_timings
from distillab.evaluation.exported import decoded
from distillab.models.model import placed

LABELS: dict[Role, str] = {"teacher": "teacher", "baseline": "student alone", "student": "student distilled"}
RUNS, SECONDS = 9, 0.2  # of the timed calls for one image
EXAMPLES, CROPPED = 12, 16  # of the test split: images, and the tokens of a text that is begun


@dataclass(frozen=True)
class Member:
    """A network by role, or why it is not there."""

    role: Role
    network: Network | None
    missing: str = ""

    @property
    def label(self) -> str:
        """What the page calls it."""
        return LABELS[self.role]

    @property
    def size(self) -> int | None:
        """The number of its parameters."""
        return None if self.network is None else parameters(self.network.model)


@dataclass(frozen=True)
class Shown:
    """What a member tells of one image or text."""

    member: Member
    answer: Answer | None = None  # of an image
    told: Told | None = None  # of a text
    milliseconds: float | None = None
    busy: bool = False  # whether repeated timings differ, as others use the machine


class Example(NamedTuple):
    """An image of the test split, (C, H, W) uint8, and its class."""

    pixels: Tensor
    name: str


def members(networks: RunNetworks) -> list[Member]:
    """Teacher, student alone and distilled student; UserError where the student itself is not there."""
    student = Member("student", networks.student)
    return [_or_missing("teacher", lambda: networks.teacher), _or_missing("baseline", lambda: networks.alone), student]


def _or_missing(role: Role, load: Callable[[], Network]) -> Member:
    try:
        return Member(role, load())
    except UserError as error:
        return Member(role, None, str(error).removesuffix(": leave teacher=true out"))


def of_image(some: Sequence[Member], pixels: Tensor, *, top: int) -> list[Shown]:
    """The likeliest classes of one image (C, H, W) uint8 by each member, and the milliseconds that it takes."""

    def shown(member: Member, network: Network) -> Shown:
        (answer,) = answers(network, pixels[None], top)
        call = partial(logits_of, network, pixels[None])
        times, spread = steady_timings(call, placed(network.model)[0], RUNS, SECONDS)
        return Shown(member, answer, milliseconds=1e3 * float(np.median(times)), busy=spread > STEADY)

    return _of_each(some, shown)


def of_text(some: Sequence[Member], text: str, *, tokens: int) -> list[Shown]:
    """Bits per byte and continuation of a text by each member, and the milliseconds of both."""

    def shown(member: Member, network: Network) -> Shown:
        begun = perf_counter()
        (each,) = told(network, [text], tokens=tokens)
        return Shown(member, told=each, milliseconds=1e3 * (perf_counter() - begun))

    return _of_each(some, shown)


def _of_each(some: Sequence[Member], shown: Callable[[Member, Network], Shown]) -> list[Shown]:
    """What is shown of each member, nothing of one that is not there."""
    return [Shown(one) if one.network is None else shown(one, one.network) for one in some]


def examples(networks: RunNetworks) -> list[Example]:
    """Images of the test split, one of each class first; none where the data are not there, or have more than 8 bits."""
    try:
        data = networks.data
        labels = data.collection.labels[data.rows["test"]]
        firsts = np.sort(np.unique(labels, return_index=True)[1])
        places = [*firsts, *np.setdiff1d(np.arange(len(labels)), firsts)][:EXAMPLES]
        images = _images(data, places)
    except UserError:
        return []
    return [Example(images[place], str(data.info.classes[labels[place]])) for place in places]


def _images(data: DataModule, places: Sequence[int]) -> dict[int, Tensor]:
    """The images of the test split at these places, of which no more is read than to the last of them."""
    found: dict[int, Tensor] = {}
    start = 0
    for pixels in decoded(data, "test"):
        found |= {place: pixels[place - start] for place in places if start <= place < start + len(pixels)}
        start += len(pixels)
        if len(found) == len(places):
            break
    return found


def beginnings(networks: RunNetworks) -> list[str]:
    """The beginnings of some documents of the test split; none where the data are not there."""
    try:
        data = networks.data
    except UserError:
        return []
    prompts = data.test_blocks.windows(3, min(CROPPED, data.length // 2), at_starts=True)
    texts = data.info.tokenizer.batch_decode(prompts, skip_special_tokens=True)
    return [text.strip() for text in texts if text.strip()]


def as_picture(pixels: Tensor, *, least: int = 96) -> np.ndarray:
    """An image (C, H, W) as (H, W, 3) uint8 for the page, small ones with larger pixels."""
    times = max(1, -(-least // pixels.shape[-1]))
    large = torch.repeat_interleave(torch.repeat_interleave(pixels, times, 1), times, 2)
    return large.expand(3, -1, -1).permute(1, 2, 0).numpy()
