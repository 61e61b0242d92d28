#!/usr/bin/env bash
# In Label Studio's JSON a person with one key frame, the first, may be seen to the video's end.
# visir goes on to it too (visir/data/boxes/label_studio.py, tests/data/test_boxes.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet label-studio-sdk==2.1.2
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

from label_studio_sdk._extensions.label_studio_tools.postprocessing.video import extract_key_frames

print("label-studio-sdk", version("label-studio-sdk"))
box = {"x": 10, "y": 10, "width": 20, "height": 80, "rotation": 0}
seen = []
for keys in ([(1, True)], [(1, True), (4, True)], [(1, True), (4, False)]):
    sequence = [{**box, "frame": frame, "enabled": on, "time": frame / 25} for frame, on in keys]
    value = {"sequence": sequence, "framesCount": 8, "duration": 8 / 25, "labels": ["Person"]}
    (found,) = extract_key_frames([{"type": "videorectangle", "id": "a", "value": value}])
    seen.append([each["frame"] for each in found["value"]["sequence"]])
    said = ", ".join(f"{frame} {'on' if on else 'off'}" for frame, on in keys)
    print(f"key frames {said}, of 8: boxes in {seen[-1]}")
assert seen == [[*range(1, 9)], [*range(1, 9)], [1, 2, 3, 4]], "behaviour changed"
EOF
