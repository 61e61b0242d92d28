"""Behind a proxy: whose word is believed on where a request came from, and the path it serves."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from visir.core.types import InputError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
OWN = ("api", "audit", "cases", "gallery", "items", "login", "openapi.json", "static")
_ROOT = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


def read_proxies(named: Sequence[str]) -> tuple[Network, ...]:
    """The addresses of proxies, or networks of them.

    Raises:
        InputError: one is no address.
    """
    found = []
    for name in named:
        try:
            found.append(ipaddress.ip_network(name))
        except ValueError:
            raise InputError(
                f"trusted-proxy: {name!r} is no address; give one as 10.0.0.2, ::1 or 10.0.0.0/24"
            ) from None
    return tuple(found)


def read_root(path: str) -> str:
    """The path below which pages are reached, without a slash at its end; empty for none.

    Raises:
        InputError: it is no path, or one of a page.
    """
    root = path.rstrip("/")
    if root and (_ROOT.fullmatch(root) is None or root.split("/")[1] in OWN):
        raise InputError(
            f"root-path: {path!r} cannot be used; give a path of letters and figures that begins "
            f"with / and with none of the pages' own names ({', '.join(OWN)}), as /visir"
        )
    return root


def placed(scope: Scope, root: str, proxies: Sequence[Network]) -> Scope:
    """A request as the application sees it: below `root`, from the address a proxy names.

    A proxy may pass the root on, or take it away.
    """
    path, raw = scope["path"], scope.get("raw_path") or b""
    if root and (path == root or path.startswith(f"{root}/")):
        path, raw = path.removeprefix(root) or "/", raw.removeprefix(root.encode()) or b"/"
    seen = {"root_path": root, "path": root + path, "raw_path": root.encode() + raw}
    peer = _address(scope["client"][0]) if scope.get("client") else None
    if _named(peer, proxies):
        headers = Headers(scope=scope)
        seen["client"] = (_client(headers, peer, proxies), 0)
        scheme = headers.get("x-forwarded-proto", "").strip().lower()
        if scheme in ("http", "https"):
            seen["scheme"] = scheme
    return {**scope, **seen}


def own_path(request: Request) -> str:
    """The path of a request without the root: /cases."""
    path: str = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return path


def _client(headers: Headers, peer: Address | None, proxies: Sequence[Network]) -> str:
    """The last address of X-Forwarded-For that no named proxy has; the proxy's if it is none."""
    last = peer
    for text in reversed(",".join(headers.getlist("x-forwarded-for")).split(",")):
        address = _address(text)
        if address is None:
            break
        last = address
        if not _named(address, proxies):
            break
    return str(last)


def _named(address: Address | None, proxies: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in proxies)


def _address(text: str) -> Address | None:
    """An IP address, with a port or without; None if it is none."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
