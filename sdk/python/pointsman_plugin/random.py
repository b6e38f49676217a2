"""Chance that can be repeated: the same exchange draws the same numbers again. Grant: `random`. The standard library's `random` begins
alike in every instance."""

from pointsman_wit.imports.random import bucket, u64

__all__ = ["bucket", "u64"]
