"""The models that this node can send to, as they were when the exchange began. Grant: `upstreams`. Prices are millionths of dollars."""

from pointsman_wit.imports.upstreams import Price, Upstream, candidates, estimate, get

__all__ = ["Price", "Upstream", "candidates", "estimate", "get"]
