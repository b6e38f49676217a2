"""Lines in the host's log, marked with plugin, version and exchange. Grant: `log`. At most 16 lines an exchange, 4 KiB each."""

from pointsman_wit.imports import log as _raw
from pointsman_wit.imports.log import Level, enabled

__all__ = ["Level", "debug", "enabled", "error", "info", "trace", "warn", "write"]


def write(level: Level, message: str, /, **fields: object) -> None:
    """A line of any level, with fields; made only if the host wants it."""
    if enabled(level):
        _raw.log(level, message, [(name, str(value)) for name, value in fields.items()])


def trace(message: str, /, **fields: object) -> None:
    """A line of level trace."""
    write(Level.TRACE, message, **fields)


def debug(message: str, /, **fields: object) -> None:
    """A line of level debug."""
    write(Level.DEBUG, message, **fields)


def info(message: str, /, **fields: object) -> None:
    """A line of level info."""
    write(Level.INFO, message, **fields)


def warn(message: str, /, **fields: object) -> None:
    """A line of level warn."""
    write(Level.WARN, message, **fields)


def error(message: str, /, **fields: object) -> None:
    """A line of level error."""
    write(Level.ERROR, message, **fields)
