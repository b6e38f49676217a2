"""Routing: the model that is good at this kind of question, so many times a minute for each tenant. It decides as
`plugins/route-by-task` does, which is in Rust, and `plugins/route-by-task-js`.

    [plugins.route-by-task]
    component = "plugins/route-by-task-python/route-by-task-python.wasm"
    hooks = ["routing"]
    grant = ["config", "upstreams", "embeddings", "kv"]
    memory = "32MiB"
    reuse = true
    config = { examples = "task", models = { code = "coder" }, min_score = 0.3, per_minute = 100 }

    [examples.task]                    # label → what such questions look like
    code = ["Write a function that sorts a list."]
    talk = ["Good morning, how are you?"]

It has an opinion on requests for a name that stands for the model that it would choose; the other models of that name follow where that
one fails, and come first where the tenant has had its share of the minute.
"""

from dataclasses import dataclass
from functools import reduce

from pointsman_plugin import Plan, PluginError, Request, RequestHead, Routing, config, embeddings, kv, upstreams

#: The host takes no more targets.
MOST = 8
MINUTE = 60_000


@dataclass
class Settings:
    """What the `config` table says."""

    examples: str
    models: dict[str, str]
    min_score: float
    per_minute: int

    @staticmethod
    def read() -> "Settings":
        settings = Settings(
            examples=config.text("examples"),
            models=config.table("models", str),
            min_score=config.number("min_score", 0.3),
            per_minute=config.integer("per_minute", 100),
        )
        if not settings.models:
            raise PluginError.setting("models", "names no specialist", 'write one, such as { code = "coder" }')
        if settings.per_minute < 1:
            raise PluginError.setting("per_minute", "is no number of requests", "write 1 or more")
        return settings


class ByTask(Routing):
    def check(self) -> None:
        Settings.read()

    def route(self, head: RequestHead, request: Request) -> Plan | None:
        # Whoever asks for one model by its name gets that one; the question is not embedded for nothing.
        candidates = [candidate.model for candidate in upstreams.candidates()]
        if len(candidates) < 2:
            return None
        settings = Settings.read()
        # Where the host cannot embed the question, its kind is not known.
        nearest = embeddings.nearest(settings.examples)
        if nearest is None or nearest.score < settings.min_score:
            return None
        task = nearest.label
        model = settings.models.get(task)
        if model is None or model not in candidates:
            return None

        is_over = kv.increment(task, ttl_ms=MINUTE) > settings.per_minute
        others = [candidate for candidate in candidates if candidate != model]
        first, *rest = ([*others, model] if is_over else [model, *others])[:MOST]
        why = f"{task}, above {settings.per_minute} a minute" if is_over else f"like {task}"
        return reduce(Plan.then, rest, Plan.to(first)).because(why).label("task", task)
