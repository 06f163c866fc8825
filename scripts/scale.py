"""The tables of docs/scale.md: prints them and writes them between the page's markers; every constant is an option."""

import json
import math
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from benchmark.reading import measure
from page_tables import fill, table

from distillab.commands.composition import conf_dir
from distillab.core.errors import UserError
from distillab.core.files import write_json
from distillab.teachers.layout import Layout
from distillab.teachers.shards import SHARD

DOCS, VIEWS = Path(__file__).parents[1] / "docs", (1, 8, 300)
LIMIT = float(yaml.safe_load((conf_dir() / "train.yaml").read_text())["cache"]["limit_gb"])  # of all caches together


TRAINING = 3  # forward passes whose arithmetic a training step takes: its backward pass takes two


@dataclass(frozen=True)
class Scale:
    """The study and the machines that are assumed; a number that is not above 0 is a UserError."""

    images: int = 1_281_167  # of ImageNet-1k's training set
    classes: int = 1000
    epochs: int = 300
    methods: int = 100
    gpus: int = 64
    teacher_gmacs: float = 3.66  # billions of multiply-adds of one image's forward pass, 224×224
    student_gmacs: float = 1.81
    peak_tflops: float = 312.0  # of one GPU
    utilisation: float = 0.2
    gpus_per_node: int = 8
    cores_per_gpu: int = 16
    network_gbit: float = 100.0  # of one machine
    memory_gb: float = 512.0
    file_kb: float = 110.0  # mean size of a training JPEG

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise UserError(f"--{name.replace('_', '-')} must be above 0, got {value}")

    def rates(self) -> tuple[float, float]:
        """Images per second of one GPU: the teacher's forward pass, the student's training."""
        speed = 1e12 * self.peak_tflops * self.utilisation / 2e9
        return speed / self.teacher_gmacs, speed / (TRAINING * self.student_gmacs)

    def layouts(self) -> dict[str, Layout]:
        """The cache's two forms."""
        top_k = {"float16": None, "top-8 and tail": 8}
        return {name: Layout(self.classes, dtype="float16", top_k=k) for name, k in top_k.items()}

    def hours(self, views: int | None) -> tuple[float, float, float]:
        """GPU hours of all students, of the teacher, and of both; `views` None runs the teacher in every step."""
        runs = self.methods * self.epochs
        teacher, student = (self.images / rate / 3600 for rate in self.rates())
        seen = runs if views is None else min(views, self.epochs)
        return runs * student, seen * teacher, runs * student + seen * teacher

    def loads(self, decode: float) -> dict[str, tuple[float, float, str]]:
        """What a machine needs, and has, while its GPUs train at full speed; an image takes `decode` seconds to read."""
        gpus, network, rate = self.gpus_per_node, self.network_gbit / 8, self.gpus_per_node * self.rates()[1]
        found = {"decoding: cores": (rate * decode, gpus * self.cores_per_gpu, "cores")}
        found["network card: image files"] = (rate * self.file_kb / 1e6, network, "GB/s")
        for name, layout in self.layouts().items():
            view, read = layout.bytes(self.images) / 1e9, rate * layout.record.itemsize / 1e9
            found[f"disk: every epoch's view, against `cache.limit_gb` ({name})"] = (self.epochs * view, LIMIT, "GB")
            found[f"memory: a view in each process that fills the cache ({name})"] = (gpus * view, self.memory_gb, "GB")
            found[f"network card: the teacher's outputs ({name})"] = (read, network, "GB/s")
        return dict(sorted(found.items(), key=lambda load: -load[1][0] / load[1][1]))


def tables(scale: Scale, measured: Mapping[str, Any]) -> dict[str, str]:
    """Every table in Markdown, by the name in its marker; `measured` is what docs/scale.json holds."""
    widths = (f"{name}: {layout.record.itemsize:,} bytes a sample" for name, layout in scale.layouts().items())
    breaks = (
        (what, f"{need:,.3g} {unit}", f"{there:,.3g} {unit}", f"{_short(100 * need / there)} %")
        for what, (need, there, unit) in scale.loads(measured["decode"]).items()
    )
    return {
        "constants": table(("constant", "value"), _constants(scale, measured)),
        "bytes": table(("", *widths, "files"), _bytes(scale)),
        "hours": table(("", "students, GPU hours", "teacher", "both", f"on {scale.gpus} GPUs, hours"), _hours(scale)),
        "breaks": table(("what", "needed", "there is", "used"), breaks),
        "figures": table(("figure", "value"), _figures(scale, measured["decode"])),
    }


def _constants(scale: Scale, measured: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield from ((f"`--{key.replace('_', '-')}`", f"{value:,}".removesuffix(".0")) for key, value in vars(scale).items())
    for work, rate in zip(("teacher's forward pass", "student's training"), scale.rates(), strict=True):
        yield f"the {work} on one GPU", f"{rate:,.0f} images/s"
    yield f"reading and cropping one image, torch {measured['torch']}", f"{1e3 * measured['decode']:.1f} ms of one core"
    for form, seconds in measured["replay"].items():
        yield f"reading one sample's outputs, {form}", f"{1e6 * seconds:.1f} µs"


def _bytes(scale: Scale) -> Iterator[tuple[str, ...]]:
    sizes, files = [layout.bytes(scale.images) for layout in scale.layouts().values()], math.ceil(scale.images / SHARD)
    for n, what in (*((n, f"views: {n}") for n in VIEWS), (scale.gpus, f"written while {scale.gpus} GPUs fill a view")):
        yield what, *(f"{n * size / 1e9:.3g} GB" for size in sizes), f"{n * files:,}"
    yield f"views within `cache.limit_gb={LIMIT:g}`", *(f"{1e9 * LIMIT // size:.0f}" for size in sizes), ""


def _hours(scale: Scale) -> Iterator[tuple[str, ...]]:
    for what, views in [("teacher in every step, every run", None), *((f"cache, views: {n}", n) for n in VIEWS[::-1])]:
        hours = scale.hours(views)
        yield what, *map(_short, (*hours, hours[-1] / scale.gpus))


def _figures(scale: Scale, decode: float) -> Iterator[tuple[str, ...]]:
    live, (students, teacher, cached) = scale.hours(None)[-1], scale.hours(scale.epochs)
    alone, rounds = students / scale.methods, math.ceil(scale.methods / scale.gpus)
    reading = scale.methods * scale.epochs * scale.images * decode / (scale.gpus * scale.cores_per_gpu) / 3600
    yield "GPU hours that the cache of every epoch saves", f"{100 * (1 - cached / live):.0f} %"
    yield "cores that decode for one GPU at full speed", f"{scale.rates()[1] * decode:,.0f}"
    yield "reading the images of the whole study on all cores", f"{reading:,.0f} hours"
    yield "all images decoded once to 224×224", f"{scale.images * 3 * 224 * 224 / 1e9:.3g} GB"
    yield "one student on one GPU", f"{_short(alone)} hours"
    yield "one student on one GPU that also fills the cache", f"{_short(alone + teacher)} hours"
    yield f"the sweep with one run per GPU, in {rounds} rounds", f"{_short(rounds * alone)} hours"
    node = scale.gpus_per_node
    yield f"the sweep on one machine of {node} GPUs", f"{math.ceil(scale.methods / node) * alone / 24:.1f} days"
    yield "students that such a machine trains in a week", f"{node * int(7 * 24 / alone)}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="first measure what docs/scale.json holds")
    parser.add_argument("--output", type=Path, default=DOCS / "scale.md", metavar="FILE", help="where the page goes")
    for field in fields(Scale):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    asked = parser.parse_args()
    try:
        scale = Scale(**{field.name: getattr(asked, field.name) for field in fields(Scale)})
    except UserError as error:
        parser.error(str(error))
    if asked.measure:
        write_json(DOCS / "scale.json", measure(scale.layouts()))
    figures = tables(scale, json.loads((DOCS / "scale.json").read_text()))
    print(*figures.values(), sep="\n\n")
    asked.output.write_text(fill((DOCS / "scale.md").read_text(), figures), encoding="utf-8")
