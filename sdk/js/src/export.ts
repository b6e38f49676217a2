/**
 * From a plugin's hooks to a component's exports: what `pointsman plugin build` puts around a plugin.
 *
 * **Invariant:** nothing that a plugin throws leaves a hook but as the contract's error: a bug in a plugin is told in words, and the
 * instance stays sound.
 */
import type { Info } from "pointsman:plugin/lifecycle@0.1.0";
import { admission, type Caching, directive, verdict } from "./caching.ts";
import { failure } from "./errors.ts";
import { outcome, type Prompting } from "./prompting.ts";
import { decision, nextStep, observed, type Routing } from "./routing.ts";

/** Runs a hook. */
function told<T>(ask: () => T): T {
  try {
    return ask();
  } catch (thrown) {
    throw failure(thrown);
  }
}

export const lifecycle = (info: Info, hooks: { check?(): void }[]) => ({
  describe: () => info,
  check: () => told(() => hooks.forEach((hook) => hook.check?.())),
});

type Arguments<T extends (...all: never[]) => unknown> = Parameters<T>;

export const routing = (hook: Routing) => ({
  route: (...ask: Arguments<Routing["route"]>) => told(() => decision(hook.route(...ask))),
  afterAttempt: (...ask: Arguments<NonNullable<Routing["afterAttempt"]>>) => told(() => nextStep(hook.afterAttempt?.(...ask), ask[2])),
  onChunk: (...ask: Arguments<NonNullable<Routing["onChunk"]>>) => told(() => observed(hook.onChunk?.(...ask))),
});

export const prompting = (hook: Prompting) => ({
  select: (...ask: Arguments<Prompting["select"]>) => told(() => outcome(hook.select(...ask))),
});

export const caching = (hook: Caching) => ({
  key: (...ask: Arguments<Caching["key"]>) => told(() => directive(hook.key(...ask))),
  confirm: (...ask: Arguments<NonNullable<Caching["confirm"]>>) => told(() => verdict(hook.confirm?.(...ask))),
  admit: (...ask: Arguments<NonNullable<Caching["admit"]>>) => told(() => admission(hook.admit?.(...ask))),
});
