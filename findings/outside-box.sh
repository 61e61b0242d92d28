#!/usr/bin/env bash
# Datumaro turns the box by which CVAT says "no longer seen" into one more person of the frame.
# visir leaves it out, also of files by Datumaro (visir/data/boxes/coco.py and cvat.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet datumaro==1.13.12
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import json
import logging
from importlib.metadata import version
from pathlib import Path

from datumaro import Dataset

logging.disable()
print("datumaro", version("datumaro"))
boxes = "".join(
    f'<box frame="{frame}" outside="{outside}" keyframe="{int(frame in (0, 3))}" occluded="0" '
    'xtl="20" ytl="10" xbr="60" ybr="90" z_order="0"/>'
    for frame, outside in ((0, 0), (1, 0), (2, 0), (3, 1))
)
Path("annotations.xml").write_text(
    "<annotations><version>1.1</version><meta><task><mode>interpolation</mode><labels><label>"
    "<name>person</name><attributes/></label></labels><original_size><width>200</width>"
    "<height>100</height></original_size></task></meta>"
    f'<track id="0" label="person">{boxes}</track></annotations>'
)
Dataset.import_from("annotations.xml", "cvat").export("coco", "coco_instances")
(path,) = Path("coco/annotations").glob("*.json")
content = json.loads(path.read_text())
names = {image["id"]: image["file_name"] for image in content["images"]}
seen = []
for each in content["annotations"]:
    seen.append((names[each["image_id"]], each["bbox"], each["attributes"]["outside"]))
    print(*seen[-1][:2], "outside:", seen[-1][2])
assert [outside for *_, outside in seen] == [False, False, False, True], "behaviour changed"
EOF
