/**
 * Prompting: a note to the model for each audience, which a header names.
 *
 * ```toml
 * [plugins.{{name}}]
 * component = "{{name}}.wasm"
 * hooks = ["prompting"]
 * grant = ["config"]
 * memory = "32MiB"
 * reuse = true
 * config = { notes = { children = "Answer so that a child of eight understands." } }
 * ```
 */
import { config, PluginError, type Prompting, Rejection, Rewrite } from "@pointsman/plugin";

export const prompting: Prompting = {
  // Asked once, when the plugin is loaded: a wrong setting never meets a request.
  check() {
    if (notes().size === 0) {
      throw PluginError.setting("notes", "names no audience", 'write one, such as { children = "Be simple." }');
    }
  },

  select(_, request) {
    const audience = request.header("x-audience");
    if (audience === undefined) return;
    const note = notes().get(audience);
    if (note === undefined) return new Rejection(400, "unknown_audience", `There is no audience \`${audience}\`.`);
    // Recorded with the exchange, and seen by later plugins.
    request.label("audience", audience);
    return Rewrite.by({ tag: "prepend", val: { role: "developer", text: note } });
  },
};

/** Audience and note. */
function notes(): Map<string, string> {
  return new Map(config.entries<string>("notes", "string"));
}
