"""A Python client of `visir serve`."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

from visir.core.types import InputError

if TYPE_CHECKING:
    import httpx
    from PIL.Image import Image

    from visir.web.schemas import ComparisonView, GalleryFacts, Item, Remark, SearchResponse

    Sent = Path | str | bytes | Image  # a file, its bytes, or a picture

T = TypeVar("T")
Side = Literal["auto", "visible", "infrared"]


class Client:
    """A connection to a server; use it in a `with` block, or close it.

    Args:
        url: where the server is, as http://127.0.0.1:8000.
        token: the access token; None if the server needs none.
        operator: your name, for the server's audit log.
        timeout: seconds to wait for an answer.

    Raises:
        InputError: httpx is not installed; or, of every method, the server cannot be reached or
            refuses, with the sentence it gives.
    """

    def __init__(
        self, url: str, token: str | None = None, operator: str = "", timeout: float = 60
    ) -> None:
        try:
            import httpx
        except ImportError:
            raise InputError(
                'httpx is not installed; install it with pip install "visir[serve]"'
            ) from None
        headers = {"X-Visir-Operator": quote(operator)}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)

    def __enter__(self) -> Client:
        """Begin a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def search(
        self,
        images: Sequence[Sent],
        *,
        modality: Side = "auto",
        within: Literal["other", "any", "visible", "infrared"] = "other",
        cameras: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        tags: Sequence[str] = (),
        k: int = 24,
        min_score: float | None = None,
        rerank: str = "none",
    ) -> SearchResponse:
        """Search for the person on one to eight images.

        Args:
            images: files, their bytes, or pictures, all of one person.
            modality: of the images; "auto" judges each by its colours.
            within: which gallery images; "other" is the modality the query images are not of.
            cameras: only these; all if empty.
            since: only images from then on; without a zone, in the server's.
            until: only images up to then.
            tags: only images with all of these.
            k: maximum number of hits, up to 200.
            min_score: the minimum score of a hit.
            rerank: how the top hits are re-ordered by their neighbours.
        """
        from visir.web.schemas import SearchResponse

        asked = {
            "modality": modality,
            "within": within,
            "cameras": list(cameras),
            "since": since,
            "until": until,
            "tags": list(tags),
            "k": k,
            "min_score": min_score,
            "rerank": rerank,
        }
        data = {"asked": json.dumps(_plain(asked))}
        return self._post("/api/search", SearchResponse, _files(images), data)

    def search_items(self, items: Sequence[int], **asked: Any) -> SearchResponse:  # noqa: ANN401
        """Search for the person on images of the gallery; `asked` as `search` has it."""
        from visir.web.schemas import SearchResponse

        wanted = {"items": items, "asked": _plain(asked)}
        return self._ask("POST", "/api/search/items", SearchResponse, wanted)

    def refine(
        self, found: SearchResponse, hits: Sequence[int] = (), misses: Sequence[int] = ()
    ) -> SearchResponse:
        """Search again with the ids of hits that are right, and of hits that are wrong."""
        from visir.web.schemas import SearchResponse as Again

        marked = {"search": found.search.id, "hits": hits, "misses": misses}
        return self._ask("POST", "/api/refine", Again, marked)

    def compare(
        self, first: Sent | int, second: Sent | int, modality: Side = "auto", maps: bool = True
    ) -> ComparisonView:
        """Compare two images, each sent or an id of the gallery.

        Args:
            first: an image; those sent come first in the answer, whatever their order here.
            second: another one.
            modality: of images sent.
            maps: compute which parts make them similar, which takes some seconds.
        """
        from visir.web.schemas import ComparisonView

        both = (first, second)
        pair = {"items": [one for one in both if isinstance(one, int)]}
        asked = json.dumps({**pair, "modality": modality, "maps": maps})
        files = _files([one for one in both if not isinstance(one, int)])
        return self._post("/api/compare", ComparisonView, files, {"asked": asked})

    def item(self, item: int) -> Item:
        """What is known of a gallery image."""
        from visir.web.schemas import Item

        return self._ask("GET", f"/api/items/{item:d}", Item)

    def thumbnail(self, item: int) -> bytes:
        """A small JPEG of a gallery image."""
        return self._send("GET", f"/api/items/{item:d}/thumbnail").content

    def remarks(self, items: Sequence[int]) -> list[Remark]:
        """Which of up to 200 gallery images are poor crops, by their thumbnails, and why."""
        from visir.web.schemas import Remark

        asked = "&".join(f"item={item:d}" for item in items)
        return self._ask("GET", f"/api/remarks?{asked}", list[Remark])

    def original(self, item: int) -> bytes:
        """A gallery image at the full size of its file, as a JPEG; the server logs it."""
        return self._send("POST", f"/api/items/{item:d}/original").content

    def stats(self) -> GalleryFacts:
        """What the gallery holds."""
        from visir.web.schemas import GalleryFacts

        return self._ask("GET", "/api/gallery", GalleryFacts)

    def _post(self, path: str, kind: type[T], files: list[Any], data: dict[str, str]) -> T:
        return self._read(kind, self._send("POST", path, data=data, files=files or None))

    def _ask(self, method: str, path: str, kind: type[T], body: object = None) -> T:
        return self._read(kind, self._send(method, path, json=body))

    def _send(self, method: str, path: str, **what: Any) -> httpx.Response:  # noqa: ANN401
        import httpx

        try:
            answer = self._http.request(method, path, **what)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise InputError(
                f"{self.url}: cannot be reached ({error}); is `visir serve` running there?"
            ) from error
        if answer.is_success:
            return answer
        try:
            sentence = answer.json()["error"]
        except (ValueError, KeyError, TypeError):
            sentence = (
                f"answered with status {answer.status_code}, which `visir serve` never does; "
                "check the address"
            )
        raise InputError(f"{self.url}: {sentence}")

    def _read(self, kind: type[T], answer: httpx.Response) -> T:
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(kind).validate_json(answer.content)
        except ValidationError:
            raise InputError(
                f"{self.url}: its answer does not fit this version of visir; use the version that "
                "the server has"
            ) from None


def _plain(asked: dict[str, Any]) -> dict[str, Any]:
    """With times as text, for JSON."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asked.items()
    }


def _files(images: Sequence[Sent]) -> list[Any]:
    return [("images", (f"{number}", _bytes(image))) for number, image in enumerate(images, 1)]


def _bytes(image: Sent) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, Path)):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise InputError(f"{image}: cannot be read ({error.strerror or error})") from None
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
