/** Time, as the exchange has it. Grant: `clock`. There is no other: `Date.now()` stands still. */
import * as clock from "pointsman:plugin/clock@0.1.0";

/** Milliseconds since the Unix epoch. */
export function now(): number {
  return Number(clock.now());
}

/** Microseconds since the exchange began. */
export function elapsedUs(): number {
  return Number(clock.elapsedUs());
}
