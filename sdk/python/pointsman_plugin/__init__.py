"""Write pointsman plugins in Python: one class with the hooks that a plugin has.

    from pointsman_plugin import Plan, Request, RequestHead, Routing

    class ShortIsCheap(Routing):
        def route(self, head: RequestHead, request: Request) -> Plan | None:
            if head.prompt_tokens > 400:
                return None
            return Plan.to("small").then("large").because("short")

`pointsman plugin build DIR` makes the component. Each of the modules `clock`, `config`, `embeddings`, `kv`, `log`, `metrics`, `random`
and `upstreams` that a plugin imports from here is an import of the component, and needs its grant in the configuration.

What it does not do: there is no clock, no chance, no network and no file in a plugin but what these modules give.
"""

from typing import TYPE_CHECKING, Any

from pointsman_wit.imports.request_data import Chunk, Request, Response
from pointsman_wit.imports.types import Message, Operation, PromptRef, RequestHead, Role, Target

from .caching import CacheKey, Caching, Directive, Scope, SemanticKey, Verdict
from .errors import PluginError, Rejection
from .prompting import Edit, PromptChoice, Prompting, Rewrite
from .request import json_at, messages
from .routing import ChunkStep, NextStep, Observe, Plan, Review, Routing

if TYPE_CHECKING:
    # What a hook is told, which is there where the component has the hook.
    from pointsman_wit.exports.caching import Candidate
    from pointsman_wit.exports.routing import Attempt, Batch, Failure

    from . import clock, config, embeddings, http, kv, log, metrics, random, upstreams

_HOOKS = {"Attempt": "routing", "Batch": "routing", "Failure": "routing", "Candidate": "caching"}
_IMPORTS = ("clock", "config", "embeddings", "http", "kv", "log", "metrics", "random", "upstreams")

__all__ = [
    "Attempt", "Batch", "CacheKey", "Caching", "Candidate", "Chunk", "ChunkStep", "Directive", "Edit", "Failure", "Message", "NextStep", "Observe", "Operation", "Plan",
    "PluginError", "PromptChoice", "PromptRef", "Prompting", "Rejection", "Request", "RequestHead", "Response", "Review", "Rewrite",
    "Role", "Routing", "Scope", "SemanticKey", "Target", "Verdict", "clock", "config", "embeddings", "http", "json_at", "kv", "log", "messages",
    "metrics", "random", "upstreams",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """What is there only if the component has it: a module when it is asked for, a type when its hook is there."""
    import importlib

    if name in _HOOKS:
        return getattr(importlib.import_module(f"pointsman_wit.exports.{_HOOKS[name]}"), name)
    if name in _IMPORTS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
