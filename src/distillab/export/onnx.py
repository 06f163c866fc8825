"""Writes the student as ONNX, in float, and runs ONNX files with onnxruntime."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distillab.core.errors import UserError
from distillab.export.exporter import INPUT, OUTPUT, Answer, Exporter, Shipped, quietly, refused

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

OPSET = 18  # the first whose Resize smooths as torch's interpolation does


class Onnx(Exporter):
    """A `.onnx` file of uint8 pixels, its metadata in `metadata_props`."""

    name = "onnx"
    suffix = ".onnx"
    packages = ("onnx", "onnxruntime", "onnxscript")

    def convert(self, shipped: Shipped) -> "ModelProto":
        """The checked graph, with the metadata and without the exporter's notes on every node; made once."""
        if shipped.graph is None:
            shipped.graph = self._converted(shipped)
        return shipped.graph

    def _converted(self, shipped: Shipped) -> "ModelProto":
        import onnx

        program = shipped.program
        try:
            with quietly():
                names = {"input_names": [INPUT], "output_names": [OUTPUT]}
                graph = torch.onnx.export(program, opset_version=OPSET, verbose=False, **names).model_proto
            made = described(graph, shipped)
            onnx.checker.check_model(made, full_check=True)
            _session(made.SerializeToString())
        except Exception as error:  # an operation that ONNX, or onnxruntime, does not have
            raise UserError(refused(shipped.model, "ONNX", error)) from error
        return made

    def export(self, shipped: Shipped, path: Path) -> None:
        """Write the graph."""
        path.write_bytes(self.convert(shipped).SerializeToString())

    def load(self, path: Path) -> Answer:
        """A session of onnxruntime on the CPU."""
        session = _session(path.read_bytes())

        def answer(pixels: Tensor) -> Tensor:
            return torch.from_numpy(session.run([OUTPUT], {INPUT: pixels.numpy()})[0])

        return answer

    @property
    def runtime(self) -> str:
        """onnxruntime."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"


def _session(content: bytes) -> "InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3  # errors alone
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def described(graph: "ModelProto", shipped: Shipped) -> "ModelProto":
    """A graph with the student's metadata alone: the stack trace of every node is larger than a small network."""
    import onnx

    inner = graph.graph
    for part in (*inner.node, *inner.initializer, *inner.value_info, *inner.input, *inner.output, inner, graph):
        del part.metadata_props[:]
        part.doc_string = ""
    for part in (*inner.input, *inner.output):
        part.type.tensor_type.shape.dim[0].dim_param = "batch"
    del inner.value_info[:]  # the shapes between, which every reader finds again
    onnx.helper.set_model_props(graph, shipped.about)
    return graph
