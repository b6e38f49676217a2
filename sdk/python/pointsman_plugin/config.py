"""The plugin's own `config` table. Grant: `config`.

A setting that cannot be read is an error that names it, says why and what to write. Read the settings in `check` as well, and whoever
wrote the configuration sees it before any request does.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from pointsman_wit.imports import config as _raw

from .errors import PluginError

_T = TypeVar("_T")
_table: dict[str, Any] | None = None


def document() -> dict[str, Any]:
    """The whole table. It never changes while an instance lives, so it is read once."""
    global _table
    if _table is None:
        _table = json.loads(_raw.document())
    return _table


def text(key: str, otherwise: str | None = None) -> str:
    """A text. Without a default there has to be one."""
    return _read(key, otherwise, "a text", lambda value: isinstance(value, str))


def number(key: str, otherwise: float | None = None) -> float:
    """A number. Without a default there has to be one."""
    return float(_read(key, otherwise, "a number", _is_number))


def integer(key: str, otherwise: int | None = None) -> int:
    """A whole number. Without a default there has to be one."""
    return _read(key, otherwise, "a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool))


def boolean(key: str, otherwise: bool | None = None) -> bool:
    """`true` or `false`. Without a default there has to be one."""
    return _read(key, otherwise, "true or false", lambda value: isinstance(value, bool))


def texts(key: str) -> list[str]:
    """A list of texts, such as `["a", "b"]`; empty where there is no such setting."""
    return _read(key, [], "a list of texts", lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value))


def table(key: str, kind: type[_T]) -> dict[str, _T]:
    """A table of single values of one type, such as `{ v1 = 90, v2 = 10 }`, in the order in which it is written; empty where there is
    none."""
    def fits(value: Any) -> bool:
        return isinstance(value, dict) and all(type(item) is kind for item in value.values())

    return _read(key, {}, f"a table of {kind.__name__} values", fits)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _read(key: str, otherwise: _T | None, kind: str, fits: Callable[[Any], bool]) -> _T:
    value = document().get(key)
    if value is None:
        if otherwise is None:
            raise PluginError.setting(key, "is missing", "it has no default, so write one")
        return otherwise
    if not fits(value):
        raise PluginError.setting(key, f"is `{json.dumps(value)}`", f"write {kind}")
    return value  # type: ignore[no-any-return]
