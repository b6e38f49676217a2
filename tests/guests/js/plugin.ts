/** Every hook and every import of the SDK, as the header `x-say-HOOK` wants it. Its twin in Python is `tests/guests/python`. */
import {
  CacheKey, type Caching, clock, config, Directive, embeddings, jsonAt, kv, log, messages, metrics, NextStep, Plan, PluginError,
  PromptChoice, type Prompting, random, Rejection, type Request, Rewrite, type Routing, upstreams,
} from "@pointsman/plugin";

const say = (request: Request, hook: string): string => request.header(`x-say-${hook}`) ?? "pass";

/** What a hook does besides its own. */
function other(what: string): undefined {
  if (what === "bug") (undefined as unknown as { missing(): void }).missing();
  if (what === "unavailable") throw new PluginError("unavailable", "not just now");
  if (what === "promise") return Promise.resolve() as never;
  if (what === "text") return "small" as never;
  if (what === "host error") kv.bytes("");
  if (what !== "pass") throw new PluginError("internal", `what is ${what}?`);
  return undefined;
}

/** Each import, and what comes of it. */
const ASK: Record<string, (request: Request) => unknown> = {
  clock: () => clock.now() > 1_700_000_000_000 && clock.elapsedUs() >= 0,
  config: () => [config.string("text"), config.number("number"), config.boolean("flag"), config.list("list").join("+"), config.number("none", 7)].join(" "),
  entries: () => config.entries<number>("table", "number").map(([name, value]) => `${name}=${value}`).join(" "),
  missing: () => config.string("nothing"),
  embeddings: () => [embeddings.nearest("task")?.label, embeddings.similarity("soup", "soup").toFixed(2), embeddings.promptEmbedding().length === embeddings.embed("x").length].join(" "),
  kv: () => {
    kv.set("k", "ü", 60_000);
    const swapped = [kv.compareAndSet("k", "u", "v"), kv.compareAndSet("k", "ü", "v")];
    return [kv.text("k"), ...swapped, kv.increment("n"), kv.increment("n", -3), kv.remove("k"), kv.remove("k"), kv.text("k") === undefined].join(" ");
  },
  refused: () => {
    try {
      kv.set("", "v");
    } catch (thrown) {
      return kv.refusal(thrown);
    }
    return "nothing";
  },
  log: () => log.info("said", { by: "guest", times: 1 }),
  metrics: () => {
    metrics.increment("said", 2, { by: "guest" });
    metrics.gauge("level", 1.5);
    metrics.observe("size", 3);
  },
  machine: () => `${Date.now()} ${Math.random()}`,
  random: () => random.u64() !== random.u64() && random.bucket("a", "x", 100) === 4,
  upstreams: () => [...upstreams.candidates().map((one) => one.model), upstreams.get("large")?.price?.input, upstreams.estimate("large", 1_000_000, 0)].join(" "),
  request: (request) =>
    [[...messages(request)].map((message) => `${message.role}:${message.text}`).join("|"), jsonAt(request, "/max_tokens"), request.lastUserText(2), request.metadata("topic") ?? "none"].join(" "),
};

export const routing: Routing = {
  route(head, request) {
    const what = say(request, "route");
    const ask = ASK[what];
    if (ask !== undefined) return Plan.to("small").because(String(ask(request)));
    if (what === "head") return Plan.to("small").because([head.tenant, head.principal, head.operation, head.maxTokens, head.temperature ?? "none", head.streaming].join(" "));
    if (what === "reject") return new Rejection(429, "slow_down", "Slow down.").retryAfter(2_000);
    if (what === "plan") return Plan.to("large").within(60_000).or("small").firstByteWithin(60_000).header("x-sent", "yes").because("as told");
    if (what === "review") return Plan.to("small").or("large").reviewed(16).withLogprobs();
    return other(what);
  },

  afterAttempt(_, request, last, answer) {
    const what = say(request, "after");
    if (what === "fall back") return last.number === 1 ? NextStep.fallBack : NextStep.accept;
    if (what === "again") return last.number === 1 ? NextStep.again(1) : NextStep.accept;
    if (what === "escalate") return last.number === 1 ? NextStep.escalateTo("large") : NextStep.accept;
    if (what === "tell") return new Rejection(422, "told", `${last.model} ${last.status} ${answer?.isWhole()} ${answer?.text(4)}`);
    return NextStep.accept;
  },
};

export const prompting: Prompting = {
  select(_, request) {
    const what = say(request, "select");
    if (what === "choose") return PromptChoice.of("greet", "v1").arm("tone", "warm").label("topic", "maths");
    if (what === "rewrite") return Rewrite.by({ tag: "append", val: { role: "user", text: "And briefly." } }, { tag: "set-parameter", val: ["temperature", "0.5"] });
    if (what === "reject") return new Rejection(400, "no_prompt", "No.");
    return other(what);
  },
};

export const caching: Caching = {
  key(_, request) {
    const what = say(request, "key");
    const key = CacheKey.of({ custom: "everybody" }).text("the same").ttl(60_000).inGeneration("1");
    if (what === "key") return key;
    if (what === "near") return CacheKey.of("tenant").near({ partition: ["en"], minSimilarity: 0.1, confirm: true });
    if (what === "admitted") return key.admitted();
    if (what === "bypass") return Directive.bypass;
    if (what === "read-only") return Directive.readOnly(key);
    if (what === "refresh") return Directive.refresh(key);
    return other(what);
  },
  confirm: (_head, request) => (say(request, "confirm") === "veto" ? "veto" : "serve"),
  admit: (_head, request, answer) => say(request, "admit") !== "no" && answer.text(1).length === 1 && 60_000,
};
