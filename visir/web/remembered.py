"""The latest searches, in memory: so that they can be refined, kept, and shown again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from visir.core.types import InputError
from visir.gallery.query import Query
from visir.web.schemas import SearchResponse

REMEMBERED = 256
"""Searches of all users together."""


class QueryImage(NamedTuple):
    """A query image; sha256: of the file that was sent; picture: to display, if there is one."""

    query: Query
    sha256: str | None = None
    picture: Image.Image | None = None


class Remembered(NamedTuple):
    """A search; owner: whose page asked for it, None if it was no page."""

    response: SearchResponse
    images: tuple[QueryImage, ...]
    owner: str | None


class Searches:
    """The latest searches of all users, without the pictures of query images."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Remembered] = OrderedDict()

    def add(
        self, response: SearchResponse, images: Sequence[QueryImage], owner: str | None
    ) -> None:
        """Remember a search, and forget the oldest of too many."""
        bare = tuple(image._replace(picture=None) for image in images)
        with self._lock:
            self._known[response.search.id] = Remembered(response, bare, owner)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    def recall(self, search: str) -> Remembered:
        """One of the latest searches.

        Raises:
            InputError: it is forgotten.
        """
        with self._lock:
            known = self._known.get(search)
        if known is None:
            raise InputError("search: is no longer remembered; search again")
        return known

    def of(self, owner: str | None, count: int) -> list[SearchResponse]:
        """The latest searches of one owner, the newest first; none where there is no owner."""
        if owner is None:
            return []
        with self._lock:
            own = [one.response for one in self._known.values() if one.owner == owner]
        return own[::-1][:count]

    def forget(self, owner: str | None) -> None:
        """Drop all searches of one owner; none where there is no owner."""
        if owner is None:
            return
        with self._lock:
            for search in [name for name, one in self._known.items() if one.owner == owner]:
                del self._known[search]
