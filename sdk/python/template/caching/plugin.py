"""Caching: answers are shared among one user's requests, and empty ones are not kept.

    [plugins.{{name}}]
    component = "{{name}}.wasm"
    hooks = ["caching"]
    grant = ["config"]
    memory = "32MiB"
    reuse = true
    config = { user = "x-user-id", minutes = 10 }
"""

from pointsman_plugin import CacheKey, Caching, Directive, PluginError, Request, RequestHead, Response, Scope, config


class Policy(Caching):
    def check(self) -> None:
        # Asked once, when the plugin is loaded: a wrong setting never meets a request.
        minutes()
        config.text("user")

    def key(self, head: RequestHead, request: Request) -> CacheKey | Directive:
        # Nobody knows whose request it is, so nobody may share it. The host puts the tenant before every key in any case.
        user = request.header(config.text("user"))
        if user is None:
            return Directive.bypass()
        return CacheKey(Scope.custom(user), ttl_ms=minutes() * 60_000, admit=True)

    def admit(self, head: RequestHead, request: Request, answer: Response) -> bool:
        return answer.text(64).strip() != ""


def minutes() -> int:
    """How long an answer is kept."""
    minutes = config.integer("minutes", 10)
    if minutes == 0:
        raise PluginError.setting("minutes", "is 0", "write how long an answer is kept, such as 10")
    return minutes
