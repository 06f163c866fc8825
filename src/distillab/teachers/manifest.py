"""What the outputs of a teacher cache depend on, as an exported file says it, and in what two caches differ."""

import json
from collections.abc import Collection
from dataclasses import asdict
from typing import Any, ClassVar

from distillab.core.files import plain
from distillab.core.group import Group, group
from distillab.teachers.cache import TeacherCache

FORMAT = 1
HASH = 12  # of a hash's letters, for people
MANIFEST = "manifest.json"
# The parts of a cache's key that are settings of the run, and the word that sets each.
SET_BY = {"precision": "recipe.precision", "channels_last": "trainer.channels_last", "device": "trainer.accelerator"}
SET_BY |= {"compiled": "trainer.compile"}
OF_THE_TEACHER = {
    "weights": "other weights",
    "structure": "other modules, or code of its own that answers otherwise",
    "about": "inputs that are normalised, or classes that are ordered, in another way",
    "spec": "other outputs",
    "folded": "BatchNorms that are folded there or here alone",
}


@group
class Manifest(Group):
    """What the outputs of a cache depend on; the words are those of a config, to say what differs."""

    PATH: ClassVar[str] = MANIFEST

    format: int
    keys: list[dict[str, Any]]  # by kind of view, as `TeacherCache.parts`
    layout: dict[str, Any]
    samples: int
    teacher: str  # its name
    data: dict[str, Any]  # the words of the data that are not about a place
    dataset: str | None  # of images in files: hash of their names, sizes, and of some contents
    decoder: str | None  # and what reads them

    @classmethod
    def about(cls, cache: TeacherCache, **words: Any) -> "Manifest":
        """That of a cache; `words` are the fields that it does not know."""
        described = {"keys": list(cache.parts), "layout": asdict(cache.layout), "samples": cache.samples, **words}
        return cls.of(json.loads(json.dumps({"format": FORMAT, **plain(described)}, default=str)))


def differences(mine: Manifest, theirs: Manifest, kinds: int, *, unknown: Collection[str] = ()) -> list[str]:
    """Why the outputs that `theirs` describes are none of `mine`, each reason in words; [] where they are.

    `unknown` are the parts of a key that are not known of `mine` yet, and may be any.
    """
    found = [
        f"cache.{name}={_spelled(other)} there and {_spelled(mine.layout.get(name))} here"
        for name, other in theirs.layout.items()
        if other != mine.layout.get(name) and name in ("dtype", "top_k")
    ]
    if not found and theirs.layout != mine.layout:
        found.append("its records hold other outputs (whether the strategy reads the embedding, and how many classes)")
    first, own = theirs.keys[0], mine.keys[0]
    other = {
        part: words
        for part, words in OF_THE_TEACHER.items()
        if part not in unknown and first.get(part) != own.get(part)
    }
    if "weights" in other:
        there, here = (_spelled(one.get("weights"))[:HASH] for one in (first, own))
        other["weights"] += f" ({there} there, {here} here)"
    if other:
        named = f" ({theirs.teacher} there, {mine.teacher} here)" if theirs.teacher != mine.teacher else ""
        found.append(f"it is of another teacher{named}, with {', '.join(other.values())}")
    for part, word in SET_BY.items():
        if first.get(part) != own.get(part):
            found.append(f"{word} differs: {_spelled(first.get(part))} there and {_spelled(own.get(part))} here")
    return found + _of_the_data(mine, theirs, kinds)


def _of_the_data(mine: Manifest, theirs: Manifest, kinds: int) -> list[str]:
    keys = list(zip(mine.keys[:kinds], theirs.keys[:kinds], strict=True))
    found = []
    if theirs.samples != mine.samples or any(one.get("data") != other.get("data") for one, other in keys):
        named = [
            f"data.{name}={_spelled(theirs.data.get(name))} there and {_spelled(mine.data.get(name))} here"
            for name in sorted({*theirs.data, *mine.data})
            if theirs.data.get(name) != mine.data.get(name)
        ]
        found += named or ["it is of other images, labels or splits"]
    elif any(one.get("files") != other.get("files") for one, other in keys):
        # Times of files differ from machine to machine: names, sizes, some contents and the decoder must then agree.
        if theirs.dataset != mine.dataset:
            found.append("it is of other image files")
        elif theirs.decoder != mine.decoder:
            found.append(f"{theirs.decoder} read the images there, and {mine.decoder} reads them here")
    return found


def _spelled(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value
