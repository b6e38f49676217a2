"""Time, as the exchange has it. Grant: `clock`. There is no other: `time.time()` has no clock to ask."""

from pointsman_wit.imports.clock import elapsed_us, now

__all__ = ["elapsed_us", "now"]
