#!/usr/bin/env bash
# Quantised dynamically, a network gives an image another embedding by what else its batch holds.
# visir quantises with fixed scales (visir/export/graphs.py, tests/export/test_export.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import logging
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

logging.disable()
print(", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "onnx")))
random = np.random.default_rng(0)
weight = numpy_helper.from_array(random.normal(size=(64, 32)).astype(np.float32), "weight")
ends = [
    helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
    for name, width in (("features", 64), ("embeddings", 32))
]
node = helper.make_node("MatMul", ["features", "weight"], ["embeddings"])
graph = helper.make_graph([node], "last layer", ends[:1], ends[1:], [weight])
onnx.save(
    helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
    "float32.onnx",
)
quantize_dynamic("float32.onnx", "int8.onnx", weight_type=QuantType.QInt8)
row, other = random.normal(size=(2, 1, 64)).astype(np.float32)
seen = {}
for name in ("float32", "int8"):
    run = onnxruntime.InferenceSession(f"{name}.onnx").run
    for scale in (1, 20, 60):
        alone = run(None, {"features": row})[0][0]
        beside = run(None, {"features": np.concatenate([row, scale * other])})[0][0]
        cosine = alone @ beside / np.linalg.norm(alone) / np.linalg.norm(beside)
        seen[name, scale] = float(cosine)
        print(f"{name}, alone and beside a row {scale} times as long: cosine {cosine:.3f}")
assert min(value for (name, _), value in seen.items() if name == "float32") > 0.99999
assert seen["int8", 20] < 0.998 and seen["int8", 60] < 0.98, "behaviour changed"
EOF
