"""The formats by their names in the config."""

from distillab.export.exporter import Exporter
from distillab.export.int8 import Int8
from distillab.export.onnx import Onnx
from distillab.export.torch_export import TorchExport

EXPORTERS: dict[str, Exporter] = {one.name: one for one in (Onnx(), TorchExport(), Int8())}
