"""What ImageNet-1k, 100 methods and 64 GPUs take: bytes, hours, and what breaks first, computed from named constants."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distillab.commands.composition import conf_dir
from distillab.core.errors import UserError
from distillab.core.files import replacing, write_json
from distillab.evaluation.cost import TRAINING
from distillab.teachers.layout import Layout
from distillab.teachers.shards import SHARD
from scale.measured import measure
from scale.words import LAUNCHERS, READING, RESOURCES

VIEWS = (1, 8, 300)


@dataclass(frozen=True)
class Scale:
    """What is assumed; every number is an argument of scripts/scale.py.

    Attributes:
        images, classes: of ImageNet-1k's training set.
        epochs, methods, gpus: the study.
        teacher_gmacs, student_gmacs: billions of multiply-adds of one image's forward pass, 224×224.
        peak_tflops, utilisation: of one GPU.
        gpus_per_node, cores_per_gpu: of one machine.
        network_gbit, memory_gb: of one machine: its network card, and its memory.
        file_kb: mean size of a training JPEG.

    Raises:
        UserError: a number that is not above 0.
    """

    images: int = 1_281_167
    classes: int = 1000
    epochs: int = 300
    methods: int = 100
    gpus: int = 64
    teacher_gmacs: float = 3.66
    student_gmacs: float = 1.81
    peak_tflops: float = 312.0
    utilisation: float = 0.2
    gpus_per_node: int = 8
    cores_per_gpu: int = 16
    network_gbit: float = 100.0
    memory_gb: float = 512.0
    file_kb: float = 110.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise UserError(f"--{name.replace('_', '-')} must be above 0, got {value}")

    @property
    def teacher_rate(self) -> float:
        """Images per second of the teacher's forward pass, on one GPU."""
        return 1e12 * self.peak_tflops * self.utilisation / (2e9 * self.teacher_gmacs)

    @property
    def student_rate(self) -> float:
        """Images per second of the student's training, on one GPU."""
        return 1e12 * self.peak_tflops * self.utilisation / (TRAINING * 2e9 * self.student_gmacs)

    @property
    def layouts(self) -> dict[str, Layout]:
        """The cache's two forms."""
        return {
            "float16": Layout(self.classes, dtype="float16"),
            "top-8 and tail": Layout(self.classes, dtype="float16", top_k=8),
        }

    @property
    def shards(self) -> int:
        """Files of one view."""
        return math.ceil(self.images / SHARD)

    def view_bytes(self, layout: Layout) -> int:
        """What one view takes on disk, without the 256 bytes at the head of each file."""
        return layout.bytes(self.images)

    def hours(self, views: int | None) -> dict[str, float]:
        """GPU hours of the whole study: `student`, `teacher`, `total`; `views` None runs the teacher in every step."""
        seen = self.methods * self.epochs if views is None else min(views, self.epochs)
        student = self.methods * self.epochs * self.images / self.student_rate / 3600
        teacher = seen * self.images / self.teacher_rate / 3600
        return {"student": student, "teacher": teacher, "total": student + teacher}

    def loads(self, decode: float, layout: Layout) -> dict[str, tuple[float, float]]:
        """By resource, what one machine needs while its GPUs train students at full speed, and what it has.

        Args:
            decode: CPU seconds of reading and cropping one image.
            layout: of the cache.
        """
        rate, network = self.gpus_per_node * self.student_rate, self.network_gbit / 8
        return {
            "cores": (rate * decode, self.gpus_per_node * self.cores_per_gpu),
            "images": (rate * self.file_kb / 1e6, network),
            "answers": (rate * layout.record.itemsize / 1e9, network),
            "memory": (self.gpus_per_node * self.view_bytes(layout) / 1e9, self.memory_gb),
            "limit": (self.epochs * self.view_bytes(layout) / 1e9, default_limit()),
        }


def default_limit() -> float:
    """GB that all caches together may take unless `cache.limit_gb` says otherwise."""
    return float(yaml.safe_load((conf_dir() / "train.yaml").read_text())["cache"]["limit_gb"])


def page(scale: Scale, measured: Mapping[str, Any]) -> str:
    """The whole page in Markdown; `measured` as of `measure`."""
    study = (
        f"{scale.methods} methods, {scale.epochs} epochs of {scale.images:,} images each, {scale.gpus} GPUs; "
        f"ResNet-34 teaches ResNet-18 at 224×224."
    )
    parts = [
        "# Scale",
        "Made by `python scripts/scale.py` from the constants below; each is an argument (`--gpus 8`, "
        "`--output FILE` writes elsewhere). " + study,
        "## What is assumed and what is measured",
        _constants(scale, measured),
        "## Bytes of the teacher cache",
        _bytes(scale),
        "## Hours",
        _hours(scale),
        "## What breaks first",
        _breaks(scale, measured),
        READING.format(**_figures(scale, measured)),
        LAUNCHERS,
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def write(output: Path, docs: Path, scale: Scale, measured: bool = False) -> None:
    """Write the page, from docs/scale.json, which `measured` renews."""
    if measured:
        write_json(docs / "scale.json", measure(scale.layouts))
    with replacing(output) as temporary:
        temporary.write_text(page(scale, json.loads((docs / "scale.json").read_text())), encoding="utf-8")


def _constants(scale: Scale, measured: Mapping[str, Any]) -> str:
    rows = [
        ("images, classes", f"{scale.images:,}, {scale.classes:,}", "given: ILSVRC 2012, arXiv 1409.0575"),
        ("multiply-adds of a forward pass, teacher and student", f"{scale.teacher_gmacs:g} and {scale.student_gmacs:g} "
         "billion", "given: torchvision's table of weights; training takes three times as many"),
        ("arithmetic of a GPU", f"{scale.peak_tflops:g} TFLOP/s", "given: NVIDIA A100 data sheet, bfloat16, dense"),
        ("share of it that convolutions reach", f"{100 * scale.utilisation:g} %", "assumed; not measured here"),
        ("teacher forward · student training, one GPU", f"{scale.teacher_rate:,.0f} · {scale.student_rate:,.0f} images/s",
         "computed from the three above"),
        ("a machine", f"{scale.gpus_per_node} GPUs, {scale.cores_per_gpu} cores each, {scale.network_gbit:g} Gbit/s, "
         f"{scale.memory_gb:g} GB of memory", "assumed"),
        ("a training image's file", f"{scale.file_kb:g} kB", "assumed: about 140 GB for the whole set"),
        ("reading and cropping one image (a made-up JPEG of 500×375, 106 kB)", f"{1e3 * measured['decode']:.1f} ms of one core",
         f"measured: docs/scale.json, torch {measured['torch']}"),
        ("reading one sample's answers", ", ".join(f"{1e6 * took:.1f} µs ({name})" for name, took in
         measured["replay"].items()), "measured: docs/scale.json, from a written shard"),
    ]  # fmt: skip
    return _table(("constant", "value", "where from"), rows, right=())


def _bytes(scale: Scale) -> str:
    rows = []
    for views in VIEWS:
        taken = [size(views * scale.view_bytes(layout)) for layout in scale.layouts.values()]
        rows.append((f"{views}", *taken, f"{views * scale.shards:,}"))
    widths = [f"{name}: {layout.record.itemsize:,} bytes a sample" for name, layout in scale.layouts.items()]
    return _table(("views", *widths, "files"), rows)


def _hours(scale: Scale) -> str:
    rows = []
    for views in (None, *reversed(VIEWS)):
        found = scale.hours(views)
        words = "teacher in every step, every run" if views is None else f"cache, {views} view{'s' * (views > 1)}"
        rows.append(
            (words, *(_hour(found[key]) for key in ("student", "teacher", "total")), _hour(found["total"] / scale.gpus))
        )
    return _table(("", "students, GPU hours", "teacher", "together", f"on {scale.gpus} GPUs, hours"), rows)


def _breaks(scale: Scale, measured: Mapping[str, Any]) -> str:
    rows = []
    for key, (words, unit, mend) in RESOURCES.items():
        loads = {name: scale.loads(measured["decode"], layout)[key] for name, layout in scale.layouts.items()}
        for name, (needed, there) in loads.items():
            of = f"{words} ({name})" if len({load[0] for load in loads.values()}) > 1 else words
            line = (of, f"{needed:,.3g} {unit}", f"{there:,.3g} {unit}", _percent(100 * needed / there), mend)
            rows.append((needed / there, line))
    ordered = [line for _, line in sorted(dict.fromkeys(rows), key=lambda row: -row[0])]
    return _table(("what", "needed", "there is", "used", "what mends it"), ordered, right=(1, 2, 3))


def _figures(scale: Scale, measured: Mapping[str, Any]) -> dict[str, str]:
    """The numbers in the text below the tables."""
    wide, narrow = (scale.view_bytes(layout) for layout in scale.layouts.values())
    live, replayed = scale.hours(None), scale.hours(scale.epochs)
    rounds = math.ceil(scale.methods / scale.gpus)
    alone = scale.epochs * scale.images / scale.student_rate / 3600
    decoding = scale.methods * scale.epochs * scale.images * measured["decode"] / (scale.gpus * scale.cores_per_gpu)
    return {
        "saved": f"{100 * (1 - replayed['total'] / live['total']):.0f}",
        "bound": f"{decoding / 3600:,.0f}",
        "cores": f"{scale.student_rate * measured['decode']:,.0f}",
        "decoded": size(scale.images * 3 * 224 * 224),
        "limit": f"{default_limit():g}",
        "views_wide": f"{int(1e9 * default_limit() // wide)}",
        "views_narrow": f"{int(1e9 * default_limit() // narrow)}",
        "files": f"{VIEWS[-1] * scale.shards:,}",
        "shards": f"{scale.shards}",
        "gpus": f"{scale.gpus}",
        "rewrite_wide": size(scale.gpus * wide),
        "rewrite_narrow": size(scale.gpus * narrow),
        "held_wide": size(wide),
        "rounds": f"{rounds}",
        "alone": _hour(alone),
        "wall": _hour(rounds * alone),
        "fill": _hour(alone + scale.hours(scale.epochs)["teacher"]),
    }


def size(count: float) -> str:
    """Bytes for people: 26.1 GB."""
    for unit, base in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= base:
            return f"{count / base:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def _hour(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _percent(value: float) -> str:
    return f"{value:,.0f} %" if value >= 10 else f"{value:.2g} %"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], right: tuple[int, ...] | None = None) -> str:
    right = tuple(range(1, len(head))) if right is None else right
    rule = ["---:" if i in right else "---" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])
