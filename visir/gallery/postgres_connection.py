"""The connection to a gallery's database, which may be lost and made again."""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from visir.core.types import UnavailableError
from visir.gallery.postgres_errors import refused

if TYPE_CHECKING:
    import psycopg

PAUSE = 1.0  # seconds after a failed try in which no other is made
# What an address may say otherwise: seconds to connect, and after which a silent machine is gone.
_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}


class Connection:
    """A connection for one thread at a time. A lost one is made again when it is next needed.

    Args:
        address: of the database.
        name: what messages call it.

    Raises:
        psycopg.Error: the server cannot be reached, or refuses.
    """

    def __init__(self, address: str, name: str) -> None:
        self.address, self.name = address, name
        self.lock = threading.RLock()
        self._depth = 0  # of `asking` within itself
        self._failed: tuple[float, UnavailableError] | None = None
        self.db = self._made()

    def _made(self) -> psycopg.Connection[Any]:
        """A new connection. Every search is planned for its own part, so nothing is prepared."""
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        given = conninfo_to_dict(self.address)
        options: dict[str, Any] = {k: v for k, v in _PATIENCE.items() if k not in given}
        return psycopg.connect(self.address, autocommit=True, prepare_threshold=None, **options)

    @contextmanager
    def asking(self) -> Iterator[psycopg.Connection[Any]]:
        """The connection, for one thread.

        Raises:
            UnavailableError: PostgreSQL is gone, for now.
            InputError: PostgreSQL refuses.
        """
        import psycopg

        with self.lock:
            self._depth += 1
            try:
                if self._depth == 1 and _is_lost(self.db):
                    self._renew()
                yield self.db
            except (psycopg.Error, UnicodeError) as error:
                raise refused(self.name, error) from error
            finally:
                self._depth -= 1

    def _renew(self) -> None:
        """Connect again. Of many who wait for a server that is gone, only the first one tries."""
        import psycopg

        if self._failed is not None and time.monotonic() - self._failed[0] < PAUSE:
            raise UnavailableError(*self._failed[1].args)
        self.db.close()
        try:
            self.db = self._made()
        except psycopg.Error as error:
            why = refused(self.name, error)
            if isinstance(why, UnavailableError):
                self._failed = (time.monotonic(), why)
            raise why from error
        self._failed = None

    def close(self) -> None:
        """Close it."""
        with self.lock:
            self.db.close()


def _is_lost(db: psycopg.Connection[Any]) -> bool:
    """Whether a connection that waits for nothing has ended: its end, or a last message, is there.

    So a server that was restarted meanwhile is noticed before anything is asked.
    """
    if db.closed:
        return True
    with selectors.DefaultSelector() as waiting:
        waiting.register(db.fileno(), selectors.EVENT_READ)
        return bool(waiting.select(0))
