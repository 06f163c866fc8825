"""The page on scale: fresh, and its arithmetic against a second way."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scale import page as scale
from scale.measured import measure
from scale.page import Scale

from distillab.core.errors import UserError
from distillab.teachers.cache import TeacherCache, View

DOCS = Path(__file__).parents[2] / "docs"
MEASURED = json.loads((DOCS / "scale.json").read_text())


@pytest.fixture(scope="module")
def page():
    return scale.page(Scale(), MEASURED)


def test_the_page_is_fresh(page):
    assert (DOCS / "scale.md").read_text() == page, "docs/scale.md is stale: run python scripts/scale.py"
    assert not re.search(r"[{}]", page)


@pytest.mark.parametrize("name", Scale().layouts)
def test_a_view_takes_what_a_written_one_takes(name, tmp_path):
    small = Scale(images=70_001)
    view = View(tmp_path, small.layouts[name], small.images, "key")
    view.add(np.arange(0, small.images, 35_000), np.zeros(3, view.layout.record))  # one in each file
    view.publish()
    files = sorted(tmp_path.glob("*.shard"))
    assert len(files) == small.shards == 3
    heads_and_part_bytes = 3 * 256 + 3
    assert (
        0 <= sum(file.stat().st_size for file in files) - small.view_bytes(small.layouts[name]) <= heads_and_part_bytes
    )


def test_the_bytes_are_those_of_the_fields():
    layouts = Scale().layouts
    assert layouts["float16"].record.itemsize == 2 * 1000
    assert layouts["top-8 and tail"].record.itemsize == 8 * 2 + 2 + 8 * 2  # values, tail, and places above 255


def test_hours_by_counting_every_forward_pass():
    """3.66 and 3 × 1.81 billion multiply-adds at 62.4 TFLOP/s, two operations each, summed method by method."""
    one = 1_281_167 / 62.4e12 / 3600
    live, some = Scale().hours(None), Scale().hours(8)
    assert live["student"] == some["student"] == pytest.approx(sum(300 * one * 2 * 5.43e9 for _ in range(100)))
    assert live["teacher"] == pytest.approx(sum(300 * one * 2 * 3.66e9 for _ in range(100)))
    assert some["teacher"] == pytest.approx(8 * one * 2 * 3.66e9)
    assert live["total"] == pytest.approx(live["student"] + live["teacher"])
    assert replace(Scale(), epochs=4).hours(300)["teacher"] == pytest.approx(some["teacher"] / 2)  # no view unread


def test_what_one_machine_needs():
    """A GPU that trains 1,000 images a second, ten of them in a machine."""
    made = Scale(
        peak_tflops=6, utilisation=1, student_gmacs=1, gpus_per_node=10, file_kb=100, network_gbit=8, memory_gb=64
    )
    assert made.student_rate == pytest.approx(1000)
    loads = made.loads(0.002, made.layouts["float16"])
    assert loads["cores"] == pytest.approx((20, 160)) and loads["images"] == pytest.approx((1, 1))
    assert loads["answers"] == pytest.approx((0.02, 1))
    assert loads["memory"] == pytest.approx((10 * (1_281_167 * 2000 + 160_145) / 1e9, 64))  # a view in each process
    assert loads["limit"] == pytest.approx((300 * (1_281_167 * 2000 + 160_145) / 1e9, 8))


def test_the_worst_stands_first(page):
    table = page.split("## What breaks first\n\n")[1].split("\n\n")[0].splitlines()[2:]
    used = [float(line.split("|")[4].strip(" %").replace(",", "")) for line in table]
    assert len(used) == 8 and used == sorted(used, reverse=True)


def test_as_many_views_fit_as_the_page_says(page, tmp_path):
    said = re.search(r"holds (\d+) views in float16 and (\d+) with", page)
    limit = 1e9 * scale.default_limit()
    for views, layout in zip(map(int, said.groups()), Scale().layouts.values(), strict=True):
        cache = TeacherCache(tmp_path, {}, layout, Scale().images, limit)
        taken = cache.view(0).bytes()
        assert views * taken <= cache.limit < (views + 1) * taken


def test_the_models_are_as_large_as_torchvision_says():
    models = pytest.importorskip("torchvision.models")
    assert pytest.approx(models.ResNet34_Weights.IMAGENET1K_V1.meta["_ops"], abs=0.005) == Scale.teacher_gmacs
    assert pytest.approx(models.ResNet18_Weights.IMAGENET1K_V1.meta["_ops"], abs=0.005) == Scale.student_gmacs


def test_what_is_measured_is_what_the_page_reads(tmp_path):
    found = measure(Scale().layouts, images=2)
    assert found.keys() == MEASURED.keys() and found["replay"].keys() == MEASURED["replay"].keys()
    assert 1e-4 < found["decode"] < 1 and all(0 < took < 1e-3 for took in found["replay"].values())
    (tmp_path / "scale.json").write_text(json.dumps(found))
    scale.write(tmp_path / "mine.md", tmp_path, Scale(gpus=8))
    assert "on 8 GPUs, hours" in (tmp_path / "mine.md").read_text()


def test_a_number_that_makes_no_sense_is_refused():
    with pytest.raises(UserError, match=r"--peak-tflops must be above 0, got 0$"):
        Scale(peak_tflops=0)
