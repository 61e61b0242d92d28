"""What PostgreSQL refuses or cannot do, as one sentence with advice."""

from __future__ import annotations

from visir.core.types import InputError, UnavailableError

# By SQLSTATE, or its first two characters: https://www.postgresql.org/docs/current/errcodes-appendix.html
_ADVICE = {
    "25006": "it is a replica or read-only; give the address of the server that is written to",
    "28": "check the user and the password in the address",
    "3D000": "check the name of the database in the address",
    "40": "another process changed the same images; do the same again",
    "42501": "let the owner of the gallery do this, or grant its tables to this user",
    "42P01": "it holds no gallery; make one with `visir index add`",
    "53100": "make room on the server's disk and do the same again",
    "53": "free memory or connections on the server and do the same again",
    "57014": "raise `statement_timeout` on the server, or search a smaller part",
    "58": "check the server's disk and its log",
    "XX": "restore the database from a backup; the server's log says what is damaged",
}
_AWAY = ("08", "57P0", "53300")  # stopping, starting, unreachable, or without a free connection


def refused(name: str, error: Exception) -> InputError:
    """One sentence: the gallery, what PostgreSQL says, what to do.

    Args:
        name: of the gallery.
        error: psycopg's, or Python's about text that is not UTF-8.
    """
    said = " ".join(str(error).split()).rstrip(".")
    state = getattr(error, "sqlstate", None) or "08"  # without one, the server was not reached
    if isinstance(error, UnicodeError) or state == "22021" or "NUL" in said:
        return InputError(
            f"{name}: a name cannot be kept in PostgreSQL ({said}); rename the file so that its "
            "name is UTF-8 without control characters"
        )
    if state.startswith(_AWAY):
        # An answer that is lost on its way may be that of a step that was done.
        return UnavailableError(
            f"{name}: PostgreSQL does not answer ({said}), and its last step is kept whole or not "
            "at all; start the server or check the network, and do the same again: it goes on "
            "where it stopped"
        )
    advice = _ADVICE.get(state) or _ADVICE.get(state[:2]) or "see the server's log"
    return InputError(
        f"{name}: PostgreSQL did not do it, and nothing of it is kept ({said}); {advice}"
    )
