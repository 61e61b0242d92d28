"""Networks as ONNX graphs, one for each modality: traced by PyTorch, and put into 8 bits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from visir.core.types import Modality
from visir.data.transforms import normalise
from visir.embedding.base import chunks_of_pixels
from visir.embedding.onnx import DESCRIPTORS, PIXELS
from visir.nets.build import Network

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18  # what PyTorch's exporter writes without converting; ONNX Runtime reads it from 1.14
_QUANTISED = ("Conv", "MatMul", "Gemm")  # the products; all else stays in float32


class _Alike(NamedTuple):
    """A mask of infrared images whose rows are all alike: known while a graph is traced."""

    infrared: bool

    def all(self) -> bool:
        return self.infrared

    def any(self) -> bool:
        return self.infrared


class _Graph(nn.Module):
    """What `pytorch.embed_pixels` does with images of one modality, as one module."""

    def __init__(self, net: Network, modality: Modality, flip: bool) -> None:
        super().__init__()
        self.net = net
        self.infrared = _Alike(modality is Modality.INFRARED)
        self.flip = flip

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to (B, D) float32, rows of length 1."""
        images = normalise(pixels)
        views = torch.cat([images, images.flip(3)]) if self.flip else images
        unit = F.normalize(self.net(views, self.infrared).embedding.float(), dim=1)
        return F.normalize(unit.view(2, -1, unit.shape[1]).sum(0), dim=1) if self.flip else unit


def graph_of(
    net: Network, modality: Modality, size: tuple[int, int], flip: bool = True
) -> ModelProto:
    """The ONNX model of a network on a CPU, for images of one modality.

    Args:
        net: the network, in evaluation mode.
        modality: which stem images go through.
        size: (height, width) of the images, in pixels.
        flip: average over the mirror image.
    """
    some = torch.zeros(3, *size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch 2.11 warns of its own code
        # Strict, since the other way of tracing makes a constant of `len(images)`.
        traced = torch.export.export(
            _Graph(net, modality, flip).eval(),
            (some,),
            dynamic_shapes={PIXELS: {0: torch.export.Dim("batch")}},
            strict=True,
        )
        _keep_small_terms(traced.graph_module)
        program = torch.onnx.export(
            traced, dynamo=True, opset_version=OPSET, input_names=[PIXELS],
            output_names=[DESCRIPTORS], verbose=False,
        )  # fmt: skip
    assert program is not None  # it is for the exporter's older way only
    model = program.model_proto
    # The exporter notes every node's place in the source, with folders of this machine.
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def quantised(graph: Path, images: Sequence[Path], size: tuple[int, int]) -> ModelProto:
    """A graph with its products in 8 bits, their ranges measured on images.

    Ranges are fixed, not found anew for every batch, so that a descriptor does not depend on the
    other images. Weights take 7 bits, since processors without VNNI overflow on products of 8.

    Args:
        graph: file of the graph.
        images: of its modality, to measure ranges on.
        size: (height, width) it takes, in pixels.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load(graph)
    add_pre_process_metadata(model)  # else it warns; the exporter has folded what there is to fold
    chunks = chunks_of_pixels(images, size)
    few = ({PIXELS: chunk[i : i + 8]} for chunk in chunks for i in range(0, len(chunk), 8))
    with TemporaryDirectory() as folder:
        out = str(Path(folder) / "int8.onnx")
        quantize_static(
            model,
            out,
            SimpleNamespace(get_next=lambda: next(few, None)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(out)


def _keep_small_terms(module: fx.GraphModule) -> None:
    """Spread the number in `x + 1e-12` over a tensor like x.

    The exporter's optimiser takes x + c for x where c is below 1e-8, which changes the generalised
    mean of small numbers.
    """
    for part in (part for part in module.modules() if isinstance(part, fx.GraphModule)):
        graph = part.graph
        for node in graph.find_nodes(op="call_function", target=torch.ops.aten.add.Tensor):
            if isinstance(node.args[1], float):
                with graph.inserting_before(node):
                    term = graph.call_function(torch.ops.aten.full_like.default, node.args)
                term.meta = dict(node.meta)
                node.args = (node.args[0], term)
        part.recompile()
