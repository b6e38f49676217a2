"""Requests to services that the owner allows (`[plugins.NAME.http]`). Grant: `http`.

The plugin waits, and its deadline runs; what is refused is raised, and `refusal` says why: `denied`, `busy`, `timeout`, `too-large`,
`unreachable`, `unavailable`.
"""

from collections.abc import Mapping

from pointsman_wit.imports import http as _raw
from pointsman_wit.imports.http import Response

from .errors import host_error

__all__ = ["Response", "refusal", "send"]


def send(
    url: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: str | bytes = b"",
    timeout_ms: int | None = None,
) -> Response:
    """Sends a request and waits for all of its answer. The method is GET, HEAD, POST, PUT, PATCH or DELETE; of times the owner's bound
    holds as well."""
    content = body.encode() if isinstance(body, str) else body
    return _raw.send(method, url, list((headers or {}).items()), content, timeout_ms)


def refusal(error: BaseException) -> str | None:
    """Why a call was refused, for whoever catches what it raised."""
    return host_error(error)
