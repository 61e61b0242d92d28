#!/usr/bin/env bash
# A copy of an open SQLite database without its -wal file is sound by its own check, and lacks rows.
# visir says when to copy a gallery (docs/gallery.md), and tests it (tests/gallery/test_scan.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet apsw==3.54.1.0
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import shutil

import apsw

print("SQLite", apsw.sqlite_lib_version())
database = apsw.Connection("gallery.sqlite")
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE items (id INTEGER PRIMARY KEY)")
database.execute("INSERT INTO items VALUES (1)")
database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
database.executemany("INSERT INTO items VALUES (?)", [(n,) for n in range(2, 101)])
shutil.copy("gallery.sqlite", "copy.sqlite")
copy = apsw.Connection("copy.sqlite")
seen = []
for name, connection in (("original", database), ("copy", copy)):
    rows = connection.execute("SELECT count(*) FROM items").fetchone()[0]
    check = connection.execute("PRAGMA integrity_check").fetchone()[0]
    seen.append((rows, check))
    print(f"{name}: {rows} rows, integrity_check says {check}")
assert seen == [(100, "ok"), (1, "ok")], "behaviour changed"
EOF
