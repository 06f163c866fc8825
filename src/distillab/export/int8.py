"""Writes the student as ONNX with weights and activations of 8 bits, by onnxruntime's static quantisation."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from distillab.core.errors import UserError
from distillab.export.exporter import INPUT, Shipped, quietly, refused
from distillab.export.onnx import Onnx, described

if TYPE_CHECKING:
    from onnx import ModelProto


# In 8 bits of a small network, 12 bytes for each bias are a tenth of the file; onnxruntime quantises it when it loads.
FLOAT_BIAS = {"QuantizeBias": False}


class Int8(Onnx):
    """A `.int8.onnx` file: QDQ, weights by channel and symmetric, activations by the range of the calibration images."""

    name = "int8"
    suffix = ".int8.onnx"
    exact = False

    def export(self, shipped: Shipped, path: Path) -> None:
        """Quantise the float graph and write it."""
        import onnx

        made = quantised(self.convert(shipped), shipped)
        try:
            onnx.checker.check_model(made, full_check=True)
        except Exception as error:
            raise UserError(refused(shipped.model, "ONNX", error)) from error
        path.write_bytes(made.SerializeToString())


def quantised(graph: "ModelProto", shipped: Shipped) -> "ModelProto":
    """A graph whose layers compute with 8 bits; raises UserError where onnxruntime cannot quantise it."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self, batches: Iterator[Tensor]) -> None:
            self.batches = batches

        def get_next(self) -> dict[str, Any] | None:
            pixels = next(self.batches, None)
            return None if pixels is None else {INPUT: pixels.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, made = (Path(folder) / name for name in ("plain.onnx", "prepared.onnx", "int8.onnx"))
        plain.write_bytes(graph.SerializeToString())
        try:
            with quietly():
                # The exporter has folded what can be, and knows all shapes.
                quant_pre_process(plain, prepared, skip_optimization=True, skip_symbolic_shape=True)
                quantization.quantize_static(
                    prepared,
                    made,
                    Reader(iter(shipped.calibration())),
                    quant_format=quantization.QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=quantization.QuantType.QInt8,
                    weight_type=quantization.QuantType.QInt8,
                    extra_options=FLOAT_BIAS,
                )
        except UserError:
            raise
        except Exception as error:
            raise UserError(refused(shipped.model, "onnxruntime's quantisation", error)) from error
        return described(onnx.load(made), shipped)
