"""The hook `caching`: which requests may share an answer.

Nothing that a plugin says makes two tenants share: the host puts the tenant before every key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from pointsman_wit.imports.types import RequestHead

if TYPE_CHECKING:
    from pointsman_wit.exports.caching import Candidate
    from pointsman_wit.imports.request_data import Request, Response


class Caching:
    """A plugin that says what may be shared."""

    def check(self) -> None:
        """As in `Routing`."""

    def key(self, head: RequestHead, request: Request) -> CacheKey | Directive | None:
        """What another request must have in common with this one to get its answer. None: no opinion."""
        raise NotImplementedError

    def confirm(self, head: RequestHead, request: Request, hit: Candidate) -> Verdict:
        """May this near hit be served? Asked if the key says so."""
        return Verdict.SERVE

    def admit(self, head: RequestHead, request: Request, answer: Response) -> bool | int:
        """May this answer be kept? Asked if the key says so. `True`, `False`, or for how many milliseconds at most."""
        return True


class Verdict(Enum):
    """May a near hit be served?"""

    SERVE = 0
    #: A miss.
    VETO = 1
    #: A miss, and the entry is removed.
    EVICT = 2


@dataclass(frozen=True)
class Scope:
    """Who may share entries."""

    kind: str
    value: str = ""

    @staticmethod
    def tenant() -> Scope:
        """All of the tenant."""
        return Scope("tenant")

    @staticmethod
    def principal() -> Scope:
        """One key of the tenant."""
        return Scope("principal")

    @staticmethod
    def custom(part: str) -> Scope:
        """A part of the tenant, such as a user's id."""
        return Scope("custom", part)


@dataclass
class SemanticKey:
    """Requests of nearly the same meaning may share as well."""

    #: The text to embed; none: the last user message.
    text: str | None = None
    #: Must be equal, however near two texts are, such as the language.
    partition: list[str] = field(default_factory=list)
    #: A cosine below which nothing is near; the host's own cut holds if it is higher.
    min_similarity: float | None = None
    #: `Caching.confirm` is asked before a near hit is served.
    confirm: bool = False


@dataclass
class CacheKey:
    """What requests have to have in common."""

    scope: Scope
    #: Stand for the text of the last user message in the exact key. The rest of the request is always part of it.
    exact: list[str] | None = None
    semantic: SemanticKey | None = None
    ttl_ms: int | None = None
    #: Entries of another generation are not found.
    generation: str | None = None
    #: `Caching.admit` is asked before an answer is kept.
    admit: bool = False


@dataclass(frozen=True)
class Directive:
    """More than a key can say."""

    kind: str
    key: CacheKey | None = None

    @staticmethod
    def bypass() -> Directive:
        """Neither look up nor store."""
        return Directive("bypass")

    @staticmethod
    def read_only(key: CacheKey) -> Directive:
        """Look up, do not store."""
        return Directive("read-only", key)

    @staticmethod
    def refresh(key: CacheKey) -> Directive:
        """Store, do not look up."""
        return Directive("refresh", key)
