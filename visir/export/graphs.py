"""Convert networks to ONNX graphs, one per modality, and quantise graphs to 8 bits."""

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

from visir.core.types import Modality, Record
from visir.data.transforms import normalise
from visir.embedding.base import chunks_of_pixels
from visir.embedding.onnx import EMBEDDINGS, PIXELS
from visir.nets.build import Network

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18  # PyTorch's exporter writes it without conversion; ONNX Runtime reads it since 1.14
_QUANTISED = ("Conv", "MatMul", "Gemm")  # the products; everything else stays in float32


class _ConstantMask(NamedTuple):
    """A mask of infrared images in a batch of one modality, which is constant in a traced graph."""

    infrared: bool

    def all(self) -> bool:
        return self.infrared

    def any(self) -> bool:
        return self.infrared


class _Graph(nn.Module):
    """The computation of `pytorch.embed_pixels` for one modality, as one module."""

    def __init__(self, net: Network, modality: Modality, flip: bool) -> None:
        super().__init__()
        self.net = net
        self.infrared = _ConstantMask(modality is Modality.INFRARED)
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
    """Convert a network on a CPU to an ONNX model for images of one modality.

    Args:
        net: the network, in evaluation mode.
        modality: selects the stem.
        size: (height, width) of the images, in pixels.
        flip: average the embeddings of an image and its mirror image.
    """
    some = torch.zeros(3, *size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch 2.11 warns of its own code
        # Strict, because non-strict tracing makes `len(images)` a constant.
        traced = torch.export.export(
            _Graph(net, modality, flip).eval(),
            (some,),
            dynamic_shapes={PIXELS: {0: torch.export.Dim("batch")}},
            strict=True,
        )
        _keep_small_terms(traced.graph_module)
        program = torch.onnx.export(
            traced,
            dynamo=True,
            opset_version=OPSET,
            input_names=[PIXELS],
            output_names=[EMBEDDINGS],
            verbose=False,
        )
    assert program is not None  # only the older exporter returns None
    model = program.model_proto
    # The exporter stores the source position of every node, with folders of this machine.
    graph = model.graph
    for element in (model, graph, *graph.node, *graph.input, *graph.output):
        element.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    _for_old_runtimes(model)
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def quantised(graph: Path, images: Sequence[Record], size: tuple[int, int]) -> ModelProto:
    """Quantise the products of a graph to 8 bits, with ranges measured on images.

    Ranges are fixed, not measured for every batch, so an embedding does not depend on the other
    images. Weights use 7 bits, because products of 8 bits overflow on processors without VNNI.

    Args:
        graph: file of the graph.
        images: images of its modality, for measuring the ranges.
        size: (height, width) of its input, in pixels.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load(graph)
    add_pre_process_metadata(model)  # avoids a warning; the exporter has already folded constants
    chunks = chunks_of_pixels(images, size)
    batches = ({PIXELS: chunk[i : i + 8]} for chunk in chunks for i in range(0, len(chunk), 8))
    with TemporaryDirectory() as folder:
        out = str(Path(folder) / "int8.onnx")
        quantize_static(
            model,
            out,
            SimpleNamespace(get_next=lambda: next(batches, None)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        found = onnx.load(out)
    _for_old_runtimes(found)
    return found


def _for_old_runtimes(model: ModelProto) -> None:
    """Set the format's version to the one that came with the graph's operators.

    The exporter writes the version of the installed onnx, which older runtimes refuse, although
    they know every operator of the graph.
    """
    from onnx.helper import find_min_ir_version_for

    model.ir_version = find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)


def _keep_small_terms(module: fx.GraphModule) -> None:
    """Replace the number in `x + 1e-12` by a tensor like x.

    The exporter's optimiser replaces x + c by x if c is below 1e-8, which changes the GeM pooling
    of small numbers.
    """
    for submodule in module.modules():
        if not isinstance(submodule, fx.GraphModule):
            continue
        graph = submodule.graph
        for node in graph.find_nodes(op="call_function", target=torch.ops.aten.add.Tensor):
            if isinstance(node.args[1], float):
                with graph.inserting_before(node):
                    term = graph.call_function(torch.ops.aten.full_like.default, node.args)
                term.meta = dict(node.meta)
                node.args = (node.args[0], term)
        submodule.recompile()
