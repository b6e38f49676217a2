/**
 * What outlives an exchange: counters, budgets, what was seen last. Grant: `kv`.
 *
 * ```ts
 * // At most 100 requests a minute, from the first on. The tenant is the exchange's: each has a counter of its own.
 * if (kv.increment("requests", 1, 60_000) > 100) return new Rejection(429, "too_many", "100 requests a minute.");
 * ```
 *
 * Each call is one step that no other call comes between. Times are milliseconds; without one an entry stays. What is refused is
 * thrown, and `refusal` says why: `quota`, `too-large`, `not-a-number`, `unavailable`.
 */
import * as kv from "pointsman:plugin/kv@0.1.0";
import { hostError } from "./errors.ts";

// The engine has them; TypeScript knows them from browsers' libraries alone.
declare class TextEncoder {
  encode(text: string): Uint8Array;
}
declare class TextDecoder {
  decode(bytes: Uint8Array): string;
}

/** A value: text is kept as UTF-8. */
export type Value = string | Uint8Array;

/** The value under a key; none where there is nothing, or nothing any more. */
export function bytes(key: string): Uint8Array | undefined {
  return kv.get(key);
}

/** The same as text. A counter is its decimal digits. */
export function text(key: string): string | undefined {
  const value = kv.get(key);
  return value === undefined ? undefined : new TextDecoder().decode(value);
}

/** Puts a value in the place of whatever was there, and of its time. */
export function set(key: string, value: Value, ttlMs?: number): void {
  kv.set(key, encoded(value), ttlMs);
}

/** Takes a value away. Was there one? */
export function remove(key: string): boolean {
  return kv.delete(key);
}

/**
 * Adds to a counter, and gives what it is now. Where there is nothing it begins at 0, with this time; one that is there keeps its own.
 *
 * Going down, a counter gets this time anew; without one it stays. The engine of componentize-js 0.23 traps where a number below 0 is
 * passed in 64 bits, so that is done with `compareAndSet`: one step all the same.
 */
export function increment(key: string, by = 1, ttlMs?: number): number {
  return by < 0 ? decrement(key, by, ttlMs) : Number(kv.increment(key, BigInt(by), ttlMs));
}

function decrement(key: string, by: number, ttlMs?: number): number {
  for (;;) {
    const was = kv.get(key);
    const now = (was === undefined ? 0 : Number(new TextDecoder().decode(was))) + by;
    if (!Number.isSafeInteger(now)) throw { payload: "not-a-number" };
    if (kv.compareAndSet(key, was, encoded(String(now)), ttlMs)) return now;
  }
}

/** Sets the value if what is there now is `expected`; `undefined`: if there is nothing. Was it? */
export function compareAndSet(key: string, expected: Value | undefined, value: Value, ttlMs?: number): boolean {
  return kv.compareAndSet(key, expected === undefined ? undefined : encoded(expected), encoded(value), ttlMs);
}

/** Why a call was refused, for whoever catches what it threw. */
export function refusal(thrown: unknown): kv.KvError | undefined {
  return hostError(thrown) as kv.KvError | undefined;
}

function encoded(value: Value): Uint8Array {
  return typeof value === "string" ? new TextEncoder().encode(value) : value;
}
