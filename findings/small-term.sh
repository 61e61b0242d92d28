#!/usr/bin/env bash
# ONNX's optimiser drops "+ 1e-12" although a power of 0.1 follows and makes it 0.063.
# visir hides such terms from it (visir/export/graphs.py, _keep_small_terms).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet onnx==1.23.2 onnxscript==0.7.2 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxscript import optimizer

print(", ".join(f"{name} {version(name)}" for name in ("onnx", "onnxscript")))
seen = {}
for term in (1e-12, 1e-8, 1e-7):
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "c"], ["a"]), helper.make_node("Pow", ["a", "p"], ["y"])],
        "root",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.float32(v), name) for name, v in (("c", term), ("p", 0.1))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    smaller = optimizer.optimize(model)
    zero = {"x": np.zeros(1, np.float32)}
    before, after = (float(ReferenceEvaluator(m).run(None, zero)[0][0]) for m in (model, smaller))
    seen[term] = [node.op_type for node in smaller.graph.node]
    print(f"(0 + {term:g}) ^ 0.1: {before:.4f} before, {after:.4f} after, nodes {seen[term]}")
assert seen == {1e-12: ["Pow"], 1e-8: ["Pow"], 1e-7: ["Add", "Pow"]}, "behaviour changed"
EOF
