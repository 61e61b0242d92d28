"""Searching a gallery in PostgreSQL exactly, by leads in an index.

Every image has its lead (`visir.gallery.scan.leads`) in half precision beside its vector, and one
index holds modality, camera, time and lead. A search reads of this index the part it asks for, in
the order of the index and without the table (an index-only scan), bounds every image's cosine from
above, and compares whole vectors only of images whose bound reaches the k-th best cosine. No such
image is left out, so the answer is exact for every part and every query, unlike a walk through a
graph: a query of one modality lies outside the cloud of the other one's images, where a graph's
neighbours do not lead to the best.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple

import numpy as np
import numpy.typing as npt

from visir.core.types import FloatArray, IntArray, Modality
from visir.gallery.postgres_tables import condition, first, packed, text, unpacked
from visir.gallery.scan.leads import directions, leading
from visir.gallery.store import Filter

if TYPE_CHECKING:
    import psycopg

INDEX = "visir_leads"
FORMER_INDEX = "visir_nearest"
"""The HNSW index that earlier versions made."""
# Of bounds: 2^-11 by rounding each lead and the query's to half precision, the rest by summing.
ERROR = 1.2e-3
_WIDEST = 512  # numbers of a lead: PostgreSQL allows 2,704 bytes in an index entry, of 2 each
_SAMPLE = 16_384
_BATCH = 4096
_SPARE, _FEWEST = 8, 256  # bounds read first: so many for each hit, and at least so many


class Basis(NamedTuple):
    """What leads are made with.

    number: grows with each new one; matrix: (D, L) directions; images: how many there were; aside:
    the mean of the squared lengths of what their leads left out.
    """

    number: int
    matrix: FloatArray
    images: int
    aside: float

    def leads_of(self, vectors_ND: FloatArray) -> tuple[int, npt.NDArray[np.float16], FloatArray]:
        """The number, (N, L) leads and (N,) lengths of what they leave out."""
        made = leading(vectors_ND, self.matrix)
        return self.number, made["lead"], made["left"]


def read_basis(db: psycopg.Connection[Any], known: Basis | None) -> Basis | None:
    """The gallery's basis; `known` if that is still the one, None if there is none."""
    said = first(db, "SELECT value FROM visir_meta WHERE key = 'leads'")
    if said is None:
        return None
    about = json.loads(said)
    if known is not None and known.number == about["number"]:
        return known
    written = first(db, "SELECT value FROM visir_meta WHERE key = 'basis'")
    matrix = np.frombuffer(base64.b64decode(written or ""), "<f4")
    return Basis(
        about["number"],
        matrix.reshape(-1, about["width"]).astype(np.float32),
        about["images"],
        about["aside"],
    )


def compare_all(
    db: psycopg.Connection[Any], query_D: FloatArray, k: int, where: Filter
) -> list[tuple[int, float]]:
    """The k best of a part as (id, cosine), by comparing whole vectors of every image."""
    part, values = condition(where)
    return db.execute(
        f"SELECT id, -(vector <#> %s::vector) AS score FROM visir_items WHERE {part} "
        "ORDER BY score DESC, id LIMIT %s",
        [text(query_D), *values, k],
    ).fetchall()


def nearest(
    db: psycopg.Connection[Any], basis: Basis, query_D: FloatArray, k: int, where: Filter
) -> list[tuple[int, float]]:
    """The k best of a part as (id, cosine), exactly, by comparing few whole vectors.

    Args:
        db: within a transaction whose statements all see the same state.
        basis: of its leads.
        query_D: (D,) query.
        k: how many.
        where: the part.
    """
    known: dict[int, float] = {}
    count = max(_FEWEST, _SPARE * k)
    while True:
        ids, most = _likely(db, basis, query_D, count, where)
        _compare(db, query_D, ids[: 2 * k], known)
        _compare(db, query_D, ids[most >= _least(known, k)], known)
        if len(ids) < count or most[-1] < _least(known, k):
            return sorted(known.items(), key=lambda hit: (-hit[1], hit[0]))[:k]
        count *= _SPARE


BOUNDS: LiteralString = (
    "SELECT id, CASE WHEN basis = %s THEN aside * %s - (lead <#> %s::halfvec) ELSE 2 END AS most "
    "FROM visir_items WHERE {part} ORDER BY most DESC, id LIMIT %s"
)
"""Images of a part with the highest bounds; images without a lead of this basis come first."""


def bounds_query(
    basis: Basis, query_D: FloatArray, count: int, where: Filter
) -> tuple[str, list[Any]]:
    """`BOUNDS` with its values.

    The index begins with the modality: naming both lets every version of PostgreSQL jump to the
    cameras of each.
    """
    part, values = condition(where)
    if where.modality is None:
        part, values = f"{part} AND modality = ANY(%s)", [*values, [m.value for m in Modality]]
    low_L = query_D @ basis.matrix
    share = float(np.linalg.norm(query_D - basis.matrix @ low_L))
    asked = [basis.number, share, text(low_L), *values, count]
    return BOUNDS.replace("{part}", part), asked


def _likely(
    db: psycopg.Connection[Any], basis: Basis, query_D: FloatArray, count: int, where: Filter
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Ids of a part's images with the highest bounds, at most `count`, and the bounds, falling."""
    sql, values = bounds_query(basis, query_D, count, where)
    db.execute("SET LOCAL enable_seqscan = off")  # the pages of the table hold more than leads
    rows = db.execute(sql, values).fetchall()
    return (
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float64),
    )


def _compare(
    db: psycopg.Connection[Any], query_D: FloatArray, ids: IntArray, known: dict[int, float]
) -> None:
    """Add the cosines of images to those that are known."""
    new = [int(item) for item in ids if int(item) not in known]
    if new:
        known.update(
            db.execute(
                "SELECT id, -(vector <#> %s::vector) FROM visir_items WHERE id = ANY(%s)",
                [text(query_D), new],
            )
        )


def _least(known: dict[int, float], k: int) -> float:
    """An image with a lower bound is not among the k best."""
    if len(known) < k:
        return -np.inf
    return float(np.sort([*known.values()])[-k]) - ERROR


def bring_up_to_date(db: psycopg.Connection[Any], basis: Basis | None, width: int) -> None:
    """Give every image a lead and make the index, in one transaction: all of it or nothing.

    A new basis is learnt if there is none, or if the gallery has grown by half and leads leave out
    more than they did.

    Args:
        db: a connection without a transaction.
        basis: the present one.
        width: numbers of a vector.
    """
    with db.transaction():
        count = int(first(db, "SELECT count(*) FROM visir_items"))
        fresh = basis is None or _is_worn(db, basis, count)
        # Searches go on; who adds or removes waits, so that no two wait for each other.
        db.execute("LOCK TABLE visir_items IN SHARE ROW EXCLUSIVE MODE")
        if basis is None or fresh:
            basis = _learnt(db, count, width, 0 if basis is None else basis.number)
        _fill(db, basis, width)
        if fresh:
            _keep(db, basis)
            db.execute(
                f"CREATE INDEX {INDEX}_new ON visir_items (modality, camera, time) "
                "INCLUDE (id, basis, aside, lead)"
            )
        for name in (INDEX, FORMER_INDEX) if fresh else (FORMER_INDEX,):
            index = found_index(db, name)
            if index is not None:  # searches wait from here on only
                db.execute(f"DROP INDEX {index}")
        if fresh:
            db.execute(f"ALTER INDEX {found_index(db, INDEX + '_new')} RENAME TO {INDEX}")
    # VACUUM lets a search read the index without the table; ANALYZE lets PostgreSQL estimate.
    db.execute("VACUUM (ANALYZE) visir_items")


def found_index(db: psycopg.Connection[Any], name: str) -> LiteralString | None:
    """An index of this gallery's images, with its schema, quoted; None if there is none.

    By its name alone PostgreSQL could find that of a gallery in another schema.
    """
    found: LiteralString | None = first(
        db,
        "SELECT format('%%I.%%I', nspname, relname) FROM pg_index "
        "JOIN pg_class ON pg_class.oid = indexrelid "
        "JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "WHERE indrelid = to_regclass('visir_items') AND relname = %s",
        name,
    )
    return found


def _is_worn(db: psycopg.Connection[Any], basis: Basis, count: int) -> bool:
    if count < 1.5 * basis.images:
        return False
    aside: float = first(
        db,
        "SELECT coalesce(avg(aside * aside), 1)::float8 FROM visir_items WHERE basis = %s",
        basis.number,
    )
    return aside > 1.25 * basis.aside + 0.002


def _learnt(db: psycopg.Connection[Any], count: int, width: int, last: int) -> Basis:
    """A basis of some of the images."""
    percent = min(100.0, 100 * _SAMPLE / max(count, 1))
    with db.cursor(binary=True) as cursor:
        rows = cursor.execute(
            "SELECT vector FROM visir_items TABLESAMPLE BERNOULLI (%s) REPEATABLE (0)", [percent]
        ).fetchall()
    sample_MD = unpacked([row[0] for row in rows], width)
    matrix = np.ascontiguousarray(directions(sample_MD)[:, :_WIDEST])
    left_M = leading(sample_MD, matrix)["left"]
    return Basis(last + 1, matrix, count, float(np.mean(left_M**2)))


def _fill(db: psycopg.Connection[Any], basis: Basis, width: int) -> None:
    """Write the leads of images that have none of this basis."""
    last = 0
    db.execute("CREATE TEMP TABLE led (id bigint, lead halfvec, aside real) ON COMMIT DROP")
    while True:
        with db.cursor(binary=True) as cursor:
            rows = cursor.execute(
                "SELECT id, vector FROM visir_items WHERE id > %s "
                "AND basis IS DISTINCT FROM %s ORDER BY id LIMIT %s",
                [last, basis.number, _BATCH],
            ).fetchall()
        if not rows:
            return
        last = rows[-1][0]
        _, lead_NL, aside_N = basis.leads_of(unpacked([row[1] for row in rows], width))
        with (
            db.cursor() as cursor,
            cursor.copy("COPY led FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["int8", "bytea", "float4"])
            for (item, _), lead, aside in zip(rows, packed(lead_NL, ">f2"), aside_N, strict=True):
                copy.write_row((item, lead, float(aside)))
        db.execute(
            "UPDATE visir_items SET basis = %s, lead = led.lead, aside = led.aside FROM led "
            "WHERE visir_items.id = led.id",
            [basis.number],
        )
        db.execute("TRUNCATE led")


def _keep(db: psycopg.Connection[Any], basis: Basis) -> None:
    about = {"number": basis.number, "width": basis.matrix.shape[1], "images": basis.images,
             "aside": basis.aside}  # fmt: skip
    matrix = base64.b64encode(basis.matrix.astype("<f4").tobytes()).decode()
    for key, value in (("leads", json.dumps(about)), ("basis", matrix)):
        db.execute(
            "INSERT INTO visir_meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET "
            "value = excluded.value",
            [key, value],
        )
