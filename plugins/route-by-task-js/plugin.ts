/**
 * Routing: the model that is good at this kind of question, so many times a minute for each tenant. It decides as
 * `plugins/route-by-task` does, which is in Rust, and `plugins/route-by-task-python`.
 *
 * ```toml
 * [plugins.route-by-task]
 * component = "plugins/route-by-task-js/route-by-task-js.wasm"
 * hooks = ["routing"]
 * grant = ["config", "upstreams", "embeddings", "kv"]
 * memory = "32MiB"
 * reuse = true
 * config = { examples = "task", models = { code = "coder" }, min_score = 0.3, per_minute = 100 }
 *
 * [examples.task]                    # label → what such questions look like
 * code = ["Write a function that sorts a list."]
 * talk = ["Good morning, how are you?"]
 * ```
 *
 * It has an opinion on requests for a name that stands for the model that it would choose; the other models of that name follow where
 * that one fails, and come first where the tenant has had its share of the minute.
 */
import { config, embeddings, kv, Plan, PluginError, type Routing, upstreams } from "@pointsman/plugin";

/** The host takes no more targets. */
const MOST = 8;
const MINUTE = 60_000;

/** What the `config` table says. */
function settings() {
  const read = {
    examples: config.string("examples"),
    models: new Map(config.entries<string>("models", "string")),
    minScore: config.number("min_score", 0.3),
    perMinute: config.number("per_minute", 100),
  };
  if (read.models.size === 0) {
    throw PluginError.setting("models", "names no specialist", 'write one, such as { code = "coder" }');
  }
  if (!Number.isInteger(read.perMinute) || read.perMinute < 1) {
    throw PluginError.setting("per_minute", "is no number of requests", "write 1 or more");
  }
  return read;
}

/** These models, in this order; nothing where there is none. */
function plan(models: string[]): Plan | undefined {
  const [first, ...others] = models.slice(0, MOST);
  return first === undefined ? undefined : others.reduce((plan, model) => plan.or(model), Plan.to(first));
}

export const routing: Routing = {
  check() {
    settings();
  },

  route() {
    // Whoever asks for one model by its name gets that one; the question is not embedded for nothing.
    const candidates = upstreams.candidates().map((candidate) => candidate.model);
    if (candidates.length < 2) return;
    const { examples, models, minScore, perMinute } = settings();
    // Where the host cannot embed the question, its kind is not known.
    const nearest = embeddings.nearest(examples);
    if (nearest === undefined || nearest.score < minScore) return;
    const task = nearest.label;
    const model = models.get(task);
    if (model === undefined || !candidates.includes(model)) return;

    const count = kv.increment(task, 1, MINUTE);
    const others = candidates.filter((candidate) => candidate !== model);
    const chosen = count > perMinute ? [...others, model] : [model, ...others];
    const why = count > perMinute ? `${task}, above ${perMinute} a minute` : `like ${task}`;
    return plan(chosen)?.because(why).label("task", task);
  },
};
