"""The tables of a gallery in PostgreSQL, filters as SQL conditions, vectors as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, LiteralString

import numpy as np
import numpy.typing as npt

from visir.core.types import FloatArray, Modality
from visir.gallery.store import Filter, Stored
from visir.sources.crop import Entry

if TYPE_CHECKING:
    import psycopg

SCHEMA: LiteralString = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS visir_meta (key text PRIMARY KEY, value text NOT NULL);
CREATE SEQUENCE IF NOT EXISTS visir_changes;
CREATE TABLE IF NOT EXISTS visir_items (
    id bigserial PRIMARY KEY, source text NOT NULL UNIQUE, camera text NOT NULL,
    modality text NOT NULL, time double precision, tags text[] NOT NULL,
    added double precision NOT NULL, vector vector NOT NULL, thumbnail bytea);
ALTER TABLE visir_items ADD COLUMN IF NOT EXISTS mark text,
    ADD COLUMN IF NOT EXISTS basis int, ADD COLUMN IF NOT EXISTS lead halfvec,
    ADD COLUMN IF NOT EXISTS aside real;
ALTER TABLE visir_items ALTER COLUMN lead SET STATISTICS 0, ALTER COLUMN vector SET STATISTICS 0;
CREATE INDEX IF NOT EXISTS visir_camera ON visir_items (camera);
CREATE INDEX IF NOT EXISTS visir_time ON visir_items (time);
CREATE INDEX IF NOT EXISTS visir_tags ON visir_items USING gin (tags);
"""
"""A gallery's tables. basis, lead, aside: see `visir.gallery.postgres_leads`; NULL is no lead."""
NEWEST: LiteralString = """
SELECT EXISTS (
    SELECT FROM information_schema.columns WHERE table_schema = current_schema()
    AND table_name = 'visir_items' AND column_name = 'aside')
"""
"""Whether the tables are as `SCHEMA` makes them, in the schema where it would make them."""
FIELDS: LiteralString = "id, source, camera, modality, time, tags, added"
_ARRIVING: LiteralString = (
    "source, camera, modality, time, tags, added, vector, thumbnail, mark, basis, lead, aside"
)


def first(db: psycopg.Connection[Any], query: LiteralString, *values: object) -> Any:  # noqa: ANN401
    """The first value of the first row; None if there is none."""
    row = db.execute(query, values).fetchone()
    return None if row is None else row[0]


def insert(
    db: psycopg.Connection[Any],
    entries: Sequence[Entry],
    vectors_ND: FloatArray,
    leads: tuple[int, npt.NDArray[np.float16], FloatArray] | None,
    now: float,
) -> dict[str, int]:
    """Copy images in: the ids of the sources that are new.

    Args:
        db: within a transaction.
        entries: N images.
        vectors_ND: their vectors.
        leads: the number of the basis, (N, L) leads and (N,) lengths of what they leave out.
        now: seconds since 1970.
    """
    db.execute(
        "CREATE TEMP TABLE incoming (place int, source text, camera text, modality text, "
        "time double precision, tags text[], added double precision, vector vector, "
        "thumbnail bytea, mark text, basis int, lead halfvec, aside real) ON COMMIT DROP"
    )
    kinds = ["int4", "text", "text", "text", "float8", "text[]", "float8", "bytea", "bytea", "text",
             "int4", "bytea", "float4"]  # fmt: skip
    with (
        db.cursor() as cursor,
        cursor.copy("COPY incoming FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(kinds)
        vectors = packed(vectors_ND, ">f4")
        for place, (e, vector) in enumerate(zip(entries, vectors, strict=True)):
            tags = list(dict.fromkeys(e.tags))
            row = (place, e.source, e.camera, e.modality.value, e.time, tags, now, vector,
                   e.thumbnail, e.mark)  # fmt: skip
            if leads is None:
                copy.write_row((*row, None, None, None))
            else:
                number, lead_NL, aside_N = leads
                (lead,) = packed(lead_NL[place : place + 1], ">f2")
                copy.write_row((*row, number, lead, float(aside_N[place])))
    rows = db.execute(
        f"INSERT INTO visir_items ({_ARRIVING}) SELECT {_ARRIVING} FROM incoming ORDER BY place "
        "ON CONFLICT (source) DO NOTHING RETURNING source, id"
    )
    return {source: int(item) for source, item in rows}


def condition(where: Filter) -> tuple[LiteralString, list[Any]]:
    """An SQL condition on items, and its values."""
    asked: list[tuple[LiteralString, Any]] = [
        ("camera = ANY(%s)", list(where.cameras) or None),
        ("modality = %s", None if where.modality is None else where.modality.value),
        ("time >= %s", where.since),
        ("time <= %s", where.until),
        ("coalesce(time, added) < %s", where.before),
        ("tags @> %s", list(where.tags) or None),
    ]
    held = [(test, value) for test, value in asked if value is not None]
    return " AND ".join(["true", *(test for test, _ in held)]), [value for _, value in held]


def stored(row: Sequence[Any]) -> Stored:
    """A row of `FIELDS`."""
    item, source, camera, modality, moment, tags, added = row
    return Stored(item, source, camera, Modality(modality), moment, tuple(tags), added)


def text(vector_D: npt.NDArray[np.floating]) -> str:
    """A vector as pgvector reads it, exactly."""
    return f"[{','.join(map(repr, vector_D.tolist()))}]"


def packed(vectors_ND: npt.NDArray[np.floating], kind: str) -> list[bytes]:
    """Vectors (`>f4`) or half-precision vectors (`>f2`) as pgvector sends and receives them.

    The bytes are the number of dimensions and an unused number, two bytes each, then the values,
    see `vector_recv` and `halfvec_recv` of pgvector.
    """
    head = np.array([vectors_ND.shape[1], 0], ">i2").tobytes()
    return [head + row.tobytes() for row in vectors_ND.astype(kind)]


def unpacked(vectors: Sequence[bytes], width: int) -> FloatArray:
    """(N, width) vectors that pgvector sent."""
    whole = np.frombuffer(b"".join(vectors), np.uint8).reshape(len(vectors), 4 + 4 * width)
    return np.ascontiguousarray(whole[:, 4:]).view(">f4").astype(np.float32)
