#!/usr/bin/env bash
# An ONNX model of opset 18 made today is refused by a runtime that knows all of opset 18.
# visir writes the format's version that came with the opset (tests/export/test_export.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet onnx==1.18.0 onnxruntime==1.17.3 numpy==1.26.4
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
graph = helper.make_graph(
    [helper.make_node("Relu", ["x"], ["y"])],
    "relu",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
seen = []
for version in (model.ir_version, helper.find_min_ir_version_for(list(model.opset_import))):
    model.ir_version = version
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (y,) = session.run(None, {"x": np.array([-1, 2], np.float32)})
        answer = f"gives {y.tolist()}"
    except Exception as error:
        answer = "refused: Unsupported model IR version" if "IR version" in str(error) else "other"
    print(f"opset 18, IR version {version}: {answer}")
    seen.append(answer)
assert seen == ["refused: Unsupported model IR version", "gives [0.0, 2.0]"], "behaviour changed"
EOF
