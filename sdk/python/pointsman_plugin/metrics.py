"""Numbers on the host's `/metrics`, as `pointsman_plugin_NAME{plugin=…}`. Grant: `metrics`.

An instrument is declared by its first use: its name in lower case with `_`, and one kind for all of its series. At most 32 instruments
and 256 series a plugin; what is over is dropped and counted.
"""

from pointsman_wit.imports import metrics as _raw


def increment(name: str, by: int = 1, /, **labels: str) -> None:
    """Adds to a counter."""
    _raw.increment(name, by, list(labels.items()))


def gauge(name: str, to: float, /, **labels: str) -> None:
    """Sets a gauge."""
    _raw.gauge(name, to, list(labels.items()))


def observe(name: str, value: float, /, **labels: str) -> None:
    """Adds a value to a histogram over powers of two, from 2^-10 to 2^20."""
    _raw.observe(name, value, list(labels.items()))
