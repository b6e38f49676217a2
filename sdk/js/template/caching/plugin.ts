/**
 * Caching: answers are shared among one user's requests, and empty ones are not kept.
 *
 * ```toml
 * [plugins.{{name}}]
 * component = "{{name}}.wasm"
 * hooks = ["caching"]
 * grant = ["config"]
 * memory = "32MiB"
 * reuse = true
 * config = { user = "x-user-id", minutes = 10 }
 * ```
 */
import { CacheKey, type Caching, config, Directive, PluginError } from "@pointsman/plugin";

export const caching: Caching = {
  // Asked once, when the plugin is loaded: a wrong setting never meets a request.
  check() {
    minutes();
    config.string("user");
  },

  key(_, request) {
    // Nobody knows whose request it is, so nobody may share it. The host puts the tenant before every key in any case.
    const user = request.header(config.string("user"));
    if (user === undefined) return Directive.bypass;
    return CacheKey.of({ custom: user }).ttl(minutes() * 60_000).admitted();
  },

  admit(_head, _request, answer) {
    return answer.text(64).trim() !== "";
  },
};

/** How long an answer is kept. */
function minutes(): number {
  const minutes = config.number("minutes", 10);
  if (minutes === 0) throw PluginError.setting("minutes", "is 0", "write how long an answer is kept, such as 10");
  return minutes;
}
