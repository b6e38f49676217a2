"""The models that this node can send to, as they were when the exchange began. Grant: `upstreams`. Prices are millionths of dollars."""

from pointsman_wit.imports.upstreams import Circuit, Latency, Price, Status, Upstream, candidates, estimate, get, status_of

__all__ = ["Circuit", "Latency", "Price", "Status", "Upstream", "candidates", "estimate", "get", "status_of"]
