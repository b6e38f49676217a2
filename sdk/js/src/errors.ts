/**
 * Failing, and refusing.
 *
 * What it does not do: it does not say what follows. The host counts a plugin's failure and goes on as its owner wants; a refusal
 * goes to the client.
 */
import type { PluginError as Raw, Rejection as RawRejection } from "pointsman:plugin/types@0.1.0";

/** A plugin's own failure. Anything else that a hook throws is one of the kind `internal`. */
export class PluginError extends Error {
  /** `config`: a setting that does not fit; `unavailable`: something that it needs is not there just now. */
  readonly kind: Raw["tag"];

  constructor(kind: Raw["tag"], message: string) {
    super(message);
    this.kind = kind;
  }

  /** A setting that cannot be worked with: which one, what is wrong with it, and what to write instead. */
  static setting(key: string, wrong: string, remedy: string): PluginError {
    return new PluginError("config", `\`${key}\` ${wrong}: ${remedy}`);
  }
}

/** A refusal that the client sees: a status of 400 to 499, or 503; a code for programs; a message for people. */
export class Rejection implements RawRejection {
  retryAfterMs?: number;

  constructor(
    readonly status: number,
    readonly code: string,
    readonly message: string,
  ) {}

  /** When the client may try again, in milliseconds. */
  retryAfter(ms: number): this {
    this.retryAfterMs = ms;
    return this;
  }
}

/** What the host's functions answer when they cannot, in words. */
const SAID: Record<string, Raw> = {
  busy: { tag: "unavailable", val: "what the plugin asked for is busy" },
  empty: { tag: "unavailable", val: "there is nothing to embed" },
  denied: { tag: "internal", val: "the owner does not allow that request" },
  timeout: { tag: "unavailable", val: "a service has not answered in time" },
  unreachable: { tag: "unavailable", val: "a service is not reached" },
  quota: { tag: "unavailable", val: "there is no room in kv" },
  unavailable: { tag: "unavailable", val: "what the plugin asked for is not there" },
  "too-large": { tag: "internal", val: "what was passed or asked for is too large" },
  "not-a-number": { tag: "internal", val: "what is kept there is no number" },
};

/** A hook has returned what it cannot: its author is told what it was, and what it may be. */
export function unlike(hook: string, said: unknown, wanted: string): PluginError {
  const isLate = typeof (said as { then?: unknown } | null)?.then === "function";
  const what = isLate ? "a Promise, and nothing waits for one (write it without `async`)," : Array.isArray(said) ? "a list" : typeof said === "object" ? "an object" : `a ${typeof said}`;
  return new PluginError("internal", `\`${hook}\` returned ${what} where it returns ${wanted}`);
}

/** The name of a host function's error, such as `quota`; none for whatever else was thrown. */
export function hostError(thrown: unknown): string | undefined {
  const payload = (thrown as { payload?: unknown } | undefined)?.payload;
  const name = typeof payload === "object" ? (payload as { tag?: unknown } | null)?.tag : payload;
  return typeof name === "string" ? name : undefined;
}

/** Whatever a hook has thrown, as the contract says it. */
export function failure(thrown: unknown): { payload: Raw } {
  if (thrown instanceof PluginError) return { payload: { tag: thrown.kind, val: thrown.message } };
  const name = hostError(thrown);
  if (name !== undefined) return { payload: SAID[name] ?? { tag: "internal", val: name } };
  const at = thrown instanceof Error ? (thrown.stack?.split("\n").find((line) => line.trim() !== "") ?? "") : "";
  return { payload: { tag: "internal", val: at === "" ? String(thrown) : `${thrown} at ${at.trim()}` } };
}
