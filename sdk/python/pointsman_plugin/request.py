"""What is read often of a request. Each call crosses into the host, so nothing here is read before it is asked for."""

import json
from collections.abc import Iterator
from typing import Any

from pointsman_wit.imports.request_data import Request, Response
from pointsman_wit.imports.types import Message


def messages(request: Request) -> Iterator[Message]:
    """All messages, first to last. Each is fetched when the loop comes to it."""
    for index in range(request.message_count()):
        message = request.message(index)
        if message is not None:
            yield message


def json_at(body: Request | Response, pointer: str) -> Any:
    """The value at an RFC 6901 pointer into a request's or an answer's body: `/user`, `/choices/0/finish_reason`."""
    text = body.json(pointer)
    return None if text is None else json.loads(text)
