"""What outlives an exchange: counters, budgets, what was seen last. Grant: `kv`.

    # At most 100 requests a minute, from the first on. The tenant is the exchange's: each has a counter of its own.
    if kv.increment("requests", ttl_ms=60_000) > 100:
        return Rejection(429, "too_many", "100 requests a minute.")

Each call is one step that no other call comes between. Times are milliseconds; without one an entry stays. What is refused is raised,
and `refusal` says why: `quota`, `too-large`, `not-a-number`, `unavailable`.
"""

from pointsman_wit.imports import kv as _raw

from .errors import host_error


def get(key: str) -> bytes | None:
    """The value under a key; none where there is nothing, or nothing any more."""
    return _raw.get(key)


def text(key: str) -> str | None:
    """The same as text. A counter is its decimal digits."""
    value = _raw.get(key)
    return None if value is None else value.decode()


def set(key: str, value: str | bytes, ttl_ms: int | None = None) -> None:
    """Puts a value in the place of whatever was there, and of its time."""
    _raw.set(key, _encoded(value), ttl_ms)


def delete(key: str) -> bool:
    """Takes a value away. Was there one?"""
    return _raw.delete(key)


def increment(key: str, by: int = 1, ttl_ms: int | None = None) -> int:
    """Adds to a counter, and gives what it is now. Where there is nothing it begins at 0, with this time; one that is there keeps its
    own."""
    return _raw.increment(key, by, ttl_ms)


def compare_and_set(key: str, expected: str | bytes | None, value: str | bytes, ttl_ms: int | None = None) -> bool:
    """Sets the value if what is there now is `expected`; none: if there is nothing. Was it?"""
    return _raw.compare_and_set(key, None if expected is None else _encoded(expected), _encoded(value), ttl_ms)


def refusal(error: BaseException) -> str | None:
    """Why a call was refused, for whoever catches what it raised."""
    return host_error(error)


def _encoded(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
