"""The formats of images: what each file takes, gives and says, and what cannot be exported. One small network, exported once."""

import io
import json
import re
from collections import Counter
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from torch import nn

from distillab.core.errors import UserError
from distillab.export import exporter as exporters
from distillab.export.exporter import Shipped
from distillab.export.formats import EXPORTERS
from distillab.models.image_model import ImageModel

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SHAPE, CLASSES = (3, 8, 8), ["zero", "one", "zwei", "trois"]
PAGE = Path(__file__).parents[2] / "docs" / "export.md"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.last, self.fc = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.last(self.norm(self.stem(x)).relu()).relu().mean((2, 3)))


class Flat(Net):
    """As most networks end: pooled to one place, and flattened."""

    def forward(self, x):
        maps = self.last(self.norm(self.stem(x)).relu()).relu()
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(maps, 1), 1))


class Choosing(Net):
    """What it computes depends on the pixels, which no exporter can follow."""

    def forward(self, x):
        return super().forward(x if x.mean() > 100 else x + 1)


def model(net=Net, **own):
    return ImageModel(net(), SHAPE, "tiny", mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4], **own).eval()


def images(count, seed=1):
    return torch.randint(256, (count, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The model, and its files by their formats."""
    folder = tmp_path_factory.mktemp("files")
    student = model(input_size=12)
    asked = []

    def calibration():
        asked.append(1)
        return iter([images(64)])

    shipped = Shipped(student, CLASSES, SHAPE, calibration, {"epoch": "3 of 4"})
    paths = {name: folder / f"student{one.suffix}" for name, one in EXPORTERS.items()}
    for name, path in paths.items():
        EXPORTERS[name].check()
        EXPORTERS[name].export(shipped, path)
    assert len(asked) == 1  # int8 alone looks at images
    return student, paths


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_file_takes_pixels_as_decoded_in_batches_of_any_size(made, name):
    student, paths = made
    answer = EXPORTERS[name].load(paths[name])
    for count in (1, 7):
        pixels = images(count, seed=5)
        with torch.no_grad():
            expected = student(pixels=pixels.float() / 255)  # which resizes and normalises
        found = answer(pixels)
        assert found.shape == (count, 4) and found.dtype == torch.float32
        apart = (found - expected).abs().max().item()
        assert apart < 1e-5 if EXPORTERS[name].exact else 1e-5 < apart < 0.05
    assert re.fullmatch(r"(onnxruntime|torch) \d+\.\S+", EXPORTERS[name].runtime)


@pytest.mark.parametrize("name", ["onnx", "int8"])
def test_an_onnx_file_says_what_it_is(made, name):
    graph = onnx.load(made[1][name])
    onnx.checker.check_model(graph, full_check=True)
    (pixels,), (logits,) = graph.graph.input, graph.graph.output
    assert (pixels.name, logits.name) == ("pixels", "logits")
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    batch, *rest = pixels.type.tensor_type.shape.dim
    assert batch.dim_param == "batch" and [one.dim_value for one in rest] == list(SHAPE)
    told = {one.key: one.value for one in graph.metadata_props}
    assert json.loads(told["classes"]) == CLASSES and told["epoch"] == "3 of 4" and told["name"] == "tiny"
    assert "uint8 (batch, 3, 8, 8), RGB, 0 to 255" in told["input"]
    assert {one.domain for one in graph.opset_import} == {""}  # any runtime has these operations


def test_a_students_memory_layout_does_not_change_its_graph():
    """Runs train on the CPU in channels-last memory, whose strides would stand in the graph."""
    kinds = []
    for layout in (torch.contiguous_format, torch.channels_last):
        student = model(Flat).to(memory_format=layout)
        graph = EXPORTERS["onnx"].convert(Shipped(student, CLASSES, SHAPE, list)).graph
        kinds.append(Counter(node.op_type for node in graph.node))
        assert student.net.stem.weight.is_contiguous(memory_format=layout), "the student itself stays as it was"
    assert kinds[0] == kinds[1]


def test_int8_stores_weights_of_8_bits_by_channel(made):
    graph = onnx.load(made[1]["int8"]).graph
    stored = {one.name: one for one in graph.initializer}
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["Conv"] == 2 and kinds["QuantizeLinear"] >= 2
    weights = [node.input[1] for node in graph.node if node.op_type == "Conv"]
    sources = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    for name in weights:
        weight, scale = (stored[one] for one in sources[name].input[:2])
        assert weight.data_type == onnx.TensorProto.INT8 and list(scale.dims) == [16]


def test_a_program_says_what_it_is_and_no_file_names_a_folder(made):
    extra = dict.fromkeys(("about/classes", "about/input"), "")
    torch.export.load(io.BytesIO(made[1]["torch_export"].read_bytes()), extra_files=extra)
    assert json.loads(extra["about/classes"]) == CLASSES and "uint8" in extra["about/input"]
    with ZipFile(made[1]["torch_export"]) as file:
        contents = b"".join(file.read(name) for name in file.namelist())
    for content in (contents, *(made[1][name].read_bytes() for name in ("onnx", "int8"))):
        assert b"exporter.py" not in content and str(Path(__file__).parent).encode() not in content


def test_the_snippet_of_the_docs_runs_without_distillab(made, tmp_path, monkeypatch, capsys):
    from PIL import Image

    student, paths = made
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert "distillab" not in code and len(code.splitlines()) <= 12
    pixels = images(1, seed=9)
    Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).save(tmp_path / "image.png")
    (tmp_path / "student.onnx").write_bytes(paths["onnx"].read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    with torch.no_grad():
        assert capsys.readouterr().out.strip() == CLASSES[student(pixels=pixels.float() / 255).argmax()]


def test_a_network_that_cannot_be_followed_is_refused_in_one_line():
    shipped = Shipped(model(Choosing), CLASSES, SHAPE, lambda: iter(()))
    with pytest.raises(UserError, match=r"tiny cannot be exported: torch.export refuses it \(.+\); leave") as caught:
        EXPORTERS["onnx"].convert(shipped)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(exporters, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(
        UserError, match=r'export=\[int8\]: onnxscript is not installed: pip install "distillab\[export\]"'
    ):
        EXPORTERS["int8"].check()
    EXPORTERS["torch_export"].check()


def test_the_extra_has_what_the_formats_need():
    needs = {name for one in EXPORTERS.values() for name in one.packages}
    text = (PAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    (extra,) = re.findall(r"^export = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    assert needs <= set(re.findall(r'"([\w-]+)[><=]', extra)) and metadata.version("onnx")
