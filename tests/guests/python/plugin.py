"""Every hook and every import of the SDK, as the header `x-say-HOOK` wants it. Its twin in TypeScript is `tests/guests/js`."""

import random as chance
from typing import Any, cast

from pointsman_plugin import (
    Attempt, CacheKey, Caching, Candidate, Directive, Edit, Message, NextStep, Plan, PluginError, PromptChoice, Prompting, Rejection,
    Request, RequestHead, Response, Rewrite, Role, Routing, Scope, SemanticKey, Verdict, clock, config, embeddings, json_at, kv, log,
    messages, metrics, random, upstreams,
)  # fmt: skip


def say(request: Request, hook: str) -> str:
    return request.header(f"x-say-{hook}") or "pass"


async def promise() -> None:
    pass


def other(what: str) -> Any:
    """What a hook does besides its own; none of it is an answer."""
    if what == "bug":
        [].missing()  # type: ignore[attr-defined]
    if what == "unavailable":
        raise PluginError("unavailable", "not just now")
    if what == "promise":
        return promise()
    if what == "text":
        return "small"
    if what == "print":
        print("hi")
    if what == "host error":
        kv.get("")
    if what != "pass":
        raise PluginError("internal", f"what is {what}?")


def words(*values: object) -> str:
    return " ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)


def kept() -> str:
    kv.set("k", "ü", 60_000)
    swapped = [kv.compare_and_set("k", "u", "v"), kv.compare_and_set("k", "ü", "v")]
    return words(kv.text("k"), *swapped, kv.increment("n"), kv.increment("n", -3), kv.delete("k"), kv.delete("k"), kv.text("k") is None)


def refused() -> str | None:
    try:
        kv.set("", "v")
    except Exception as error:
        return kv.refusal(error)
    return "nothing"


def measured() -> None:
    metrics.increment("said", 2, by="guest")
    metrics.gauge("level", 1.5)
    metrics.observe("size", 3.0)


def fleet() -> str:
    large = upstreams.get("large")
    price = large.price.input if large and large.price else None
    return words(*(one.model for one in upstreams.candidates()), price, upstreams.estimate("large", 1_000_000, 0))


def read(request: Request) -> str:
    all = "|".join(f"{message.role.name.lower()}:{message.text}" for message in messages(request))
    return words(all, json_at(request, "/max_tokens"), request.last_user_text(2), request.metadata("topic") or "none")


def meaning() -> str:
    nearest = embeddings.nearest("task")
    same = len(embeddings.prompt_embedding()) == len(embeddings.embed("x"))
    return words(nearest and nearest.label, f"{embeddings.similarity('soup', 'soup'):.2f}", same)


#: Each import, and what comes of it.
ASK = {
    "clock": lambda _: words(clock.now() > 1_700_000_000_000 and clock.elapsed_us() >= 0),
    "config": lambda _: words(
        config.text("text"), config.number("number"), config.boolean("flag"), "+".join(config.texts("list")), config.integer("none", 7)
    ),
    "entries": lambda _: " ".join(f"{name}={value}" for name, value in config.table("table", int).items()),
    "missing": lambda _: config.text("nothing"),
    "embeddings": lambda _: meaning(),
    "kv": lambda _: kept(),
    "refused": lambda _: refused(),
    "log": lambda _: log.info("said", by="guest", times=1),
    "machine": lambda _: words(chance.random(), {"a", "b", "c"}),
    "metrics": lambda _: measured(),
    "random": lambda _: words(random.u64() != random.u64() and random.bucket("a", "x", 100) == 4),
    "upstreams": lambda _: fleet(),
    "request": read,
}


class EveryHook(Routing, Prompting, Caching):
    def check(self) -> None:
        pass

    def route(self, head: RequestHead, request: Request) -> Plan | Rejection | None:
        what = say(request, "route")
        if what in ASK:
            return Plan.to("small").because(str(ASK[what](request)))
        if what == "head":
            temperature = "none" if head.temperature is None else head.temperature
            operation = head.operation.name.lower()
            return Plan.to("small").because(words(head.tenant, head.principal, operation, head.max_tokens, temperature, head.streaming))
        if what == "reject":
            return Rejection(429, "slow_down", "Slow down.", retry_after_ms=2_000)
        if what == "plan":
            plan = Plan.to("large").within(60_000).then("small").first_byte_within(60_000)
            return plan.header("x-sent", "yes").because("as told")
        if what == "review":
            return Plan.to("small").then("large").reviewed(16).with_logprobs()
        # What types forbid can come all the same.
        return cast("Plan | Rejection | None", other(what))

    def after_attempt(self, head: RequestHead, request: Request, last: Attempt, answer: Response | None) -> NextStep | Rejection:
        what = say(request, "after")
        if what == "tell" and answer is not None:
            said = f"{last.model} {last.status} {str(answer.is_whole()).lower()} {answer.text(4)}"
            return Rejection(422, "told", said)
        if last.number > 1:
            return NextStep.accept()
        steps = {"fall back": NextStep.fall_back(), "again": NextStep.again(1), "escalate": NextStep.escalate_to("large")}
        return steps.get(what, NextStep.accept())

    def select(self, head: RequestHead, request: Request) -> PromptChoice | Rewrite | Rejection | None:
        what = say(request, "select")
        if what == "choose":
            return PromptChoice.of("greet", "v1").arm("tone", "warm").label("topic", "maths")
        if what == "rewrite":
            return Rewrite.by(Edit.append(Message(Role.USER, "And briefly.")), Edit.set_parameter("temperature", "0.5"))
        if what == "reject":
            return Rejection(400, "no_prompt", "No.")
        other(what)
        return None

    def key(self, head: RequestHead, request: Request) -> CacheKey | Directive | None:
        what = say(request, "key")
        key = CacheKey(Scope.custom("everybody"), exact=["the same"], ttl_ms=60_000, generation="1")
        if what == "near":
            return CacheKey(Scope.tenant(), semantic=SemanticKey(partition=["en"], min_similarity=0.1, confirm=True))
        if what == "admitted":
            key.admit = True
        if what in ("key", "admitted"):
            return key
        directives = {"bypass": Directive.bypass(), "read-only": Directive.read_only(key), "refresh": Directive.refresh(key)}
        if what not in directives:
            other(what)
        return directives.get(what)

    def confirm(self, head: RequestHead, request: Request, hit: Candidate) -> Verdict:
        return Verdict.VETO if say(request, "confirm") == "veto" else Verdict.SERVE

    def admit(self, head: RequestHead, request: Request, answer: Response) -> bool | int:
        return 60_000 if say(request, "admit") != "no" and len(answer.text(1)) == 1 else False
