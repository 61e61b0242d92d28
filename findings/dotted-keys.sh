#!/usr/bin/env bash
# Crops named cam1_12.5.jpg and cam1_12.8.jpg are one sample to webdataset, without any "jpg".
# visir lists every image of a shard by its whole name (visir/sources/tars.py, test_tars.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet webdataset==1.0.2 pillow==13.0.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import io
import tarfile
from importlib.metadata import version

import webdataset
from PIL import Image

print("webdataset", version("webdataset"))
with tarfile.open("crops.tar", "w") as tar:
    for name in ("cam1_12.5.jpg", "cam1_12.8.jpg"):
        data = io.BytesIO()
        Image.new("L", (8, 16), 90).save(data, "JPEG")
        header = tarfile.TarInfo(name)
        header.size = data.tell()
        data.seek(0)
        tar.addfile(header, data)
seen = []
for sample in webdataset.WebDataset("crops.tar", shardshuffle=False):
    parts = sorted(name for name in sample if not name.startswith("__"))
    seen.append((sample["__key__"], parts))
    print(f"sample {sample['__key__']!r} with {parts}")
assert seen == [("cam1_12", ["5.jpg", "8.jpg"])], "behaviour changed"
EOF
