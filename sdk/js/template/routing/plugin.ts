/**
 * Routing: the small model for short questions, the large one for long ones.
 *
 * ```toml
 * [plugins.{{name}}]
 * component = "{{name}}.wasm"
 * hooks = ["routing"]
 * grant = ["config"]
 * memory = "32MiB"
 * reuse = true
 * config = { limit = 400 }
 * ```
 */
import { config, Plan, PluginError, type Routing } from "@pointsman/plugin";

export const routing: Routing = {
  // Asked once, when the plugin is loaded: a wrong setting never meets a request.
  check() {
    limit();
  },

  route(head) {
    // Whoever asks for a model by its name gets that one.
    if (head.model !== "auto") return;
    const [first, second] = head.promptTokens <= limit() ? ["small", "large"] : ["large", "small"];
    return Plan.to(first).or(second).because("length");
  },
};

/** Tokens up to which a question is short. */
function limit(): number {
  const limit = config.number("limit", 400);
  if (limit === 0) throw PluginError.setting("limit", "is 0", "write a number of tokens, such as 400");
  return limit;
}
