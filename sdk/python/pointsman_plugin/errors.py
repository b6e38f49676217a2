"""Failing, and refusing.

What it does not do: it does not say what follows. The host counts a plugin's failure and goes on as its owner wants; a refusal goes
to the client.
"""

from enum import Enum
from typing import Any

from componentize_py_types import Err
from pointsman_wit.imports import types


class PluginError(Exception):
    """A plugin's own failure. Any other exception of a hook is one of the kind `internal`.

    `config`: a setting that does not fit; `unavailable`: something that it needs is not there just now.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    @staticmethod
    def setting(key: str, wrong: str, remedy: str) -> "PluginError":
        """A setting that cannot be worked with: which one, what is wrong with it, and what to write instead."""
        return PluginError("config", f"`{key}` {wrong}: {remedy}")


class Rejection(types.Rejection):
    """A refusal that the client sees: a status of 400 to 499, or 503; a code for programs; a message for people."""

    def __init__(self, status: int, code: str, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(status, code, message, retry_after_ms)


_SAID = {
    "busy": ("unavailable", "what the plugin asked for is busy"),
    "empty": ("unavailable", "there is nothing to embed"),
    "denied": ("internal", "the owner does not allow that request"),
    "timeout": ("unavailable", "a service has not answered in time"),
    "unreachable": ("unavailable", "a service is not reached"),
    "quota": ("unavailable", "there is no room in kv"),
    "unavailable": ("unavailable", "what the plugin asked for is not there"),
    "too-large": ("internal", "what was passed or asked for is too large"),
    "not-a-number": ("internal", "what is kept there is no number"),
}


def host_error(error: BaseException) -> str | None:
    """The name of a host function's error, such as `quota`; none for any other exception."""
    if not isinstance(error, Err):
        return None
    value = error.value
    if isinstance(value, Enum):
        return value.name.lower().replace("_", "-")
    # A variant's case is a class of its own: `EmbedError_Busy`.
    case = type(value).__name__.partition("_")[2]
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in case).lstrip("-")


def unlike(hook: str, said: Any, wanted: str) -> PluginError:
    """A hook has returned what it cannot: its author is told what it was, and what it may be."""
    what = f"a {type(said).__name__}"
    if hasattr(said, "__await__"):
        what = "a coroutine, and nothing waits for one (write it without `async`),"
        said.close()
    return PluginError("internal", f"`{hook}` returned {what} where it returns {wanted}")


def failure(error: Exception) -> Err[Any]:
    """Whatever a hook has raised, as the contract says it."""
    if isinstance(error, PluginError):
        return _raw(error.kind, str(error))
    name = host_error(error)
    if name is not None:
        return _raw(*_SAID.get(name, ("internal", name)))
    # Not with `traceback`, which looks for the source: there are no files.
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    at = f" at {last.tb_frame.f_code.co_filename.rpartition('/')[2]}:{last.tb_lineno}" if last else ""
    return _raw("internal", f"{type(error).__name__}: {error}{at}")


def _raw(kind: str, message: str) -> Err[Any]:
    cases = {"config": types.PluginError_Config, "unavailable": types.PluginError_Unavailable}
    return Err(cases.get(kind, types.PluginError_Internal)(message))
