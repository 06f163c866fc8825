"""The tables of the page on scale: fresh, and its arithmetic against a second way."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scale
from benchmark.reading import measure
from page_tables import fill
from scale import Scale

from distillab.core.errors import UserError
from distillab.teachers.cache import TeacherCache, View

DOCS = Path(__file__).parents[2] / "docs"
MEASURED = json.loads((DOCS / "scale.json").read_text())


PAGE = (DOCS / "scale.md").read_text()


@pytest.fixture(scope="module")
def tables():
    return scale.tables(Scale(), MEASURED)


def test_the_tables_in_the_page_are_fresh(tables):
    assert re.findall(r"<!-- (?!end)(\w+) -->", PAGE) == list(tables)
    assert fill(PAGE, tables) == PAGE, "docs/scale.md is stale: run python scripts/scale.py"
    assert all(f"\n\n{table}\n\n<!-- end -->" in PAGE for table in tables.values())
    assert not re.search(r"[{}]", PAGE)


def test_another_study_changes_the_tables_alone():
    other = fill(PAGE, scale.tables(Scale(gpus=8), MEASURED))
    assert "on 8 GPUs, hours" in other and "on 64 GPUs, hours" not in other
    assert fill(other, scale.tables(Scale(), MEASURED)) == PAGE


@pytest.mark.parametrize("name", Scale().layouts())
def test_a_view_takes_what_a_written_one_takes(name, tmp_path):
    small = Scale(images=70_001)
    layout = small.layouts()[name]
    view = View(tmp_path, layout, small.images, "key")
    view.add(np.arange(0, small.images, 35_000), np.zeros(3, layout.record))  # one in each file
    view.publish()
    files = sorted(tmp_path.glob("*.shard"))
    assert len(files) == 3
    assert scale.tables(small, MEASURED)["bytes"].splitlines()[2].endswith("| 3 |")
    heads_and_part_bytes = 3 * 256 + 3
    assert 0 <= sum(file.stat().st_size for file in files) - layout.bytes(small.images) <= heads_and_part_bytes


def test_the_bytes_are_those_of_the_fields():
    layouts = Scale().layouts()
    assert layouts["float16"].record.itemsize == 2 * 1000
    assert layouts["top-8 and tail"].record.itemsize == 8 * 2 + 2 + 8 * 2  # values, tail, and places above 255


def test_hours_by_counting_every_forward_pass():
    """3.66 and 3 × 1.81 billion multiply-adds at 62.4 TFLOP/s, two operations each, summed method by method."""
    one = 1_281_167 / 62.4e12 / 3600
    (students, teacher, both), some = Scale().hours(None), Scale().hours(8)
    assert students == some[0] == pytest.approx(sum(300 * one * 2 * 5.43e9 for _ in range(100)))
    assert teacher == pytest.approx(sum(300 * one * 2 * 3.66e9 for _ in range(100)))
    assert some[1] == pytest.approx(8 * one * 2 * 3.66e9)
    assert both == pytest.approx(students + teacher)
    assert replace(Scale(), epochs=4).hours(300)[1] == pytest.approx(some[1] / 2)  # no view unread


def test_what_one_machine_needs():
    """A GPU that trains 1,000 images a second, ten of them in a machine."""
    made = Scale(
        peak_tflops=6, utilisation=1, student_gmacs=1, gpus_per_node=10, file_kb=100, network_gbit=8, memory_gb=64
    )
    assert made.rates()[1] == pytest.approx(1000)
    loads = {what: load[:2] for what, load in made.loads(0.002).items()}
    view = (1_281_167 * 2000 + 160_145) / 1e9
    assert loads.pop("decoding: cores") == pytest.approx((20, 160))
    assert loads.pop("network card: image files") == pytest.approx((1, 1))
    assert loads.pop("network card: the teacher's outputs (float16)") == pytest.approx((0.02, 1))
    assert loads.pop("memory: a view in each process that fills the cache (float16)") == pytest.approx((10 * view, 64))
    assert loads.pop("disk: every epoch's view, against `cache.limit_gb` (float16)") == pytest.approx((300 * view, 8))
    assert len(loads) == 3 and all("top-8 and tail" in what for what in loads)


def test_the_worst_stands_first(tables):
    table = tables["breaks"].splitlines()[2:]
    used = [float(line.split("|")[4].strip(" %").replace(",", "")) for line in table]
    assert len(used) == 8 and used == sorted(used, reverse=True)


def test_as_many_views_fit_as_the_page_says(tables, tmp_path):
    said = re.search(r"views within `cache.limit_gb=8` \| (\d+) \| (\d+) \|", tables["bytes"])
    limit = 1e9 * scale.LIMIT
    for views, layout in zip(map(int, said.groups()), Scale().layouts().values(), strict=True):
        cache = TeacherCache(tmp_path, {}, layout, samples=Scale().images, limit=limit, strong={})
        taken = cache.view(0).bytes()
        assert views * taken <= cache.limit < (views + 1) * taken


def test_the_models_are_as_large_as_torchvision_says():
    models = pytest.importorskip("torchvision.models")
    assert pytest.approx(models.ResNet34_Weights.IMAGENET1K_V1.meta["_ops"], abs=0.005) == Scale.teacher_gmacs
    assert pytest.approx(models.ResNet18_Weights.IMAGENET1K_V1.meta["_ops"], abs=0.005) == Scale.student_gmacs


def test_the_figures_of_the_study_by_counting():
    """The table's last figures from the ones before them: 1,858 and 1,252 GPU hours, 5,746 images/s, 3.1 ms."""
    said = dict(line.strip("| ").split(" | ") for line in scale.tables(Scale(), MEASURED)["figures"].splitlines()[2:])
    passes = 100 * 300 * 1_281_167
    assert said["GPU hours that the cache of every epoch saves"] == f"{100 * (1 - (1858 + 12.5) / (1858 + 1252)):.0f} %"
    assert said["cores that decode for one GPU at full speed"] == f"{5746 * MEASURED['decode']:.0f}"
    assert said["reading the images of the whole study on all cores"] == (
        f"{passes * MEASURED['decode'] / (64 * 16 * 3600):.0f} hours"
    )
    assert said["all images decoded once to 224×224"] == f"{1_281_167 * 150_528 / 1e9:.0f} GB"
    assert said["one student on one GPU"] == f"{1858 / 100:.0f} hours"
    assert said["one student on one GPU that also fills the cache"] == f"{1858 / 100 + 1252 / 100:.0f} hours"
    assert said["the sweep with one run per GPU, in 2 rounds"] == f"{2 * 1858 / 100:.0f} hours"
    assert said["the sweep on one machine of 8 GPUs"] == f"{13 * 18.58 / 24:.1f} days"  # 13 rounds of 8
    assert said["students that such a machine trains in a week"] == str(8 * 9)  # 9 on each GPU: 168 / 18.58


def test_what_is_measured_is_what_the_page_reads(tmp_path):
    found = measure(Scale().layouts(), images=2)
    assert found.keys() == MEASURED.keys() and found["replay"].keys() == MEASURED["replay"].keys()
    assert 1e-4 < found["decode"] < 1 and all(0 < took < 1e-3 for took in found["replay"].values())


def test_the_command_prints_the_tables_and_writes_the_page_elsewhere(tmp_path):
    command = [sys.executable, scale.__file__, "--gpus", "8", "--output", str(tmp_path / "mine.md")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "\n\n".join(scale.tables(Scale(gpus=8), MEASURED).values())
    assert "on 8 GPUs, hours" in (tmp_path / "mine.md").read_text()


def test_a_number_that_makes_no_sense_is_refused():
    with pytest.raises(UserError, match=r"--peak-tflops must be above 0, got 0$"):
        Scale(peak_tflops=0)
