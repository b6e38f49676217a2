"""From a plugin's classes to a component's exports: what `pointsman plugin build` puts around a plugin.

**Invariant:** nothing that a plugin raises leaves a hook but as the contract's error: a bug in a plugin is told in words, and the
instance stays sound.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from .caching import CacheKey, Caching, Directive, Scope, Verdict
from .errors import Rejection, failure, unlike
from .prompting import PromptChoice, Prompting, Rewrite
from .routing import ChunkStep, NextStep, Observe, Plan, Routing

_T = TypeVar("_T")
#: The longest time that the contract can say: the host takes the shorter of this and the key's.
_LONGEST = 2**32 - 1


class _Nowhere:
    """What `print` writes to in a plugin. Python itself would trap."""

    def write(self, _: str) -> int:
        # What `logging` and `warnings` bear: they go on without.
        raise OSError("a plugin has no standard output: write with `log`, and grant it")

    def flush(self) -> None:
        pass


sys.stdout = sys.stderr = _Nowhere()


def _told(ask: Callable[..., _T], *arguments: Any) -> _T:
    try:
        return ask(*arguments)
    except Exception as error:
        raise failure(error) from None


def _hook(name: str) -> Any:
    # Only the hooks that the component has are there.
    return importlib.import_module(f"pointsman_wit.exports.{name}")


def lifecycle(name: str, version: str, description: str, hooks: list[Any]) -> type:
    """What every plugin says of itself; its configuration is good if `check` of each hook says so."""
    info = _hook("lifecycle").Info(name, version, description)

    class Lifecycle:
        def describe(self) -> Any:
            return info

        def check(self) -> None:
            for hook in hooks:
                _told(hook.check)

    return Lifecycle


def routing(hook: Routing) -> type:
    """The hook `routing`."""
    raw = _hook("routing")

    def observe(said: Observe | None) -> Any:
        return said and raw.Observe(said.events, said.ms)

    def decision(said: Plan | Observe | Rejection | None) -> Any:
        if said is None:
            return raw.Decision_Pass()
        if isinstance(said, Rejection):
            return raw.Decision_Reject(said)
        if isinstance(said, Observe):
            return raw.Decision_Observe(observe(said))
        if not isinstance(said, Plan):
            raise unlike("route", said, "a Plan, an Observe, a Rejection or None")
        review = said.review and raw.Review(said.review.answers, said.review.logprobs, said.review.tokens)
        return raw.Decision_Plan(raw.Plan(said.targets, said.headers, said.reason, said.labels, review, observe(said.observe)))

    def next_step(said: NextStep | Rejection) -> Any:
        if isinstance(said, Rejection):
            return raw.NextStep_Reject(said)
        if not isinstance(said, NextStep):
            raise unlike("after_attempt", said, "a NextStep or a Rejection")
        if said.kind == "again":
            return raw.NextStep_Again(said.after_ms)
        if said.kind == "escalate":
            return raw.NextStep_Escalate(Plan.to(said.model).targets[0])
        return raw.NextStep_Accept() if said.kind == "accept" else raw.NextStep_FallBack()

    def observed(said: ChunkStep | Rejection) -> Any:
        if isinstance(said, Rejection):
            return raw.Observed(raw.ChunkStep_Reject(said), b"")
        if not isinstance(said, ChunkStep):
            raise unlike("on_chunk", said, "a ChunkStep or a Rejection")
        if said.kind == "stop":
            step = raw.ChunkStep_Stop(raw.Ending.LENGTH if said.value == "length" else raw.Ending.CONTENT_FILTER)
        elif said.kind == "escalate":
            step = raw.ChunkStep_Escalate(Plan.to(said.value).targets[0])
        else:
            step = raw.ChunkStep_GoOn() if said.kind == "go-on" else raw.ChunkStep_Enough()
        return raw.Observed(step, said.state)

    class Raw:
        def route(self, head: Any, request: Any) -> Any:
            return _told(lambda: decision(hook.route(head, request)))

        def after_attempt(self, head: Any, request: Any, last: Any, answer: Any) -> Any:
            return _told(lambda: next_step(hook.after_attempt(head, request, last, answer)))

        def on_chunk(self, head: Any, request: Any, part: Any, chunk: Any, state: bytes) -> Any:
            return _told(lambda: observed(hook.on_chunk(head, request, part, chunk, state)))

    return Raw


def prompting(hook: Prompting) -> type:
    """The hook `prompting`."""
    raw = _hook("prompting")

    def choice(said: PromptChoice | None) -> Any:
        return said and raw.PromptChoice(said.prompt, said.experiment, said.labels)

    def outcome(said: PromptChoice | Rewrite | Rejection | None) -> Any:
        if said is None:
            return raw.Outcome_Pass()
        if isinstance(said, Rejection):
            return raw.Outcome_Reject(said)
        if isinstance(said, PromptChoice):
            return raw.Outcome_Choose(choice(said))
        if not isinstance(said, Rewrite):
            raise unlike("select", said, "a PromptChoice, a Rewrite, a Rejection or None")
        edits = [getattr(raw, f"Edit_{edit.kind}")(edit.value) for edit in said.edits]
        return raw.Outcome_Rewrite(raw.Rewrite(choice(said.choice), edits))

    class Raw:
        def select(self, head: Any, request: Any) -> Any:
            return _told(lambda: outcome(hook.select(head, request)))

    return Raw


def caching(hook: Caching) -> type:
    """The hook `caching`."""
    raw = _hook("caching")

    def scope(said: Scope) -> Any:
        if said.kind == "custom":
            return raw.Scope_Custom(said.value)
        return raw.Scope_Tenant() if said.kind == "tenant" else raw.Scope_Principal()

    def cache_key(said: CacheKey) -> Any:
        near = said.semantic and raw.SemanticKey(
            said.semantic.text, said.semantic.partition, said.semantic.min_similarity, said.semantic.confirm
        )
        return raw.CacheKey(scope(said.scope), said.exact, near, said.ttl_ms, said.generation, said.admit)

    def directive(said: CacheKey | Directive | None) -> Any:
        if said is None:
            return raw.Directive_Pass()
        if isinstance(said, CacheKey):
            return raw.Directive_Key(cache_key(said))
        if not isinstance(said, Directive):
            raise unlike("key", said, "a CacheKey, a Directive or None")
        if said.key is None:
            return raw.Directive_Bypass()
        case = raw.Directive_ReadOnly if said.kind == "read-only" else raw.Directive_Refresh
        return case(cache_key(said.key))

    def admission(said: bool | int) -> int | None:
        if isinstance(said, bool):
            return _LONGEST if said else None
        if not isinstance(said, int):
            raise unlike("admit", said, "a bool or a number of milliseconds")
        return min(max(0, said), _LONGEST)

    class Raw:
        def key(self, head: Any, request: Any) -> Any:
            return _told(lambda: directive(hook.key(head, request)))

        def confirm(self, head: Any, request: Any, hit: Any) -> Any:
            return _told(lambda: raw.Verdict(Verdict(hook.confirm(head, request, hit)).value))

        def admit(self, head: Any, request: Any, answer: Any) -> Any:
            return _told(lambda: admission(hook.admit(head, request, answer)))

    return Raw
