"""Routing: the small model for short questions, the large one for long ones.

    [plugins.{{name}}]
    component = "{{name}}.wasm"
    hooks = ["routing"]
    grant = ["config"]
    memory = "32MiB"
    reuse = true
    config = { limit = 400 }
"""

from pointsman_plugin import Plan, PluginError, Request, RequestHead, Routing, config


class Policy(Routing):
    def check(self) -> None:
        # Asked once, when the plugin is loaded: a wrong setting never meets a request.
        limit()

    def route(self, head: RequestHead, request: Request) -> Plan | None:
        # Whoever asks for a model by its name gets that one.
        if head.model != "auto":
            return None
        first, second = ("small", "large") if head.prompt_tokens <= limit() else ("large", "small")
        return Plan.to(first).then(second).because("length")


def limit() -> int:
    """Tokens up to which a question is short."""
    limit = config.integer("limit", 400)
    if limit == 0:
        raise PluginError.setting("limit", "is 0", "write a number of tokens, such as 400")
    return limit
