"""Prompting: a note to the model for each audience, which a header names.

    [plugins.{{name}}]
    component = "{{name}}.wasm"
    hooks = ["prompting"]
    grant = ["config"]
    memory = "32MiB"
    reuse = true
    config = { notes = { children = "Answer so that a child of eight understands." } }
"""

from pointsman_plugin import Edit, Message, PluginError, Prompting, Rejection, Request, RequestHead, Rewrite, Role, config


class Policy(Prompting):
    def check(self) -> None:
        # Asked once, when the plugin is loaded: a wrong setting never meets a request.
        if not notes():
            raise PluginError.setting("notes", "names no audience", 'write one, such as { children = "Be simple." }')

    def select(self, head: RequestHead, request: Request) -> Rewrite | Rejection | None:
        audience = request.header("x-audience")
        if audience is None:
            return None
        note = notes().get(audience)
        if note is None:
            return Rejection(400, "unknown_audience", f"There is no audience `{audience}`.")
        # Recorded with the exchange, and seen by later plugins.
        request.label("audience", audience)
        return Rewrite.by(Edit.prepend(Message(Role.DEVELOPER, note)))


def notes() -> dict[str, str]:
    """Audience and note."""
    return config.table("notes", str)
