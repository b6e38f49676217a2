/** Chance that can be repeated: the same exchange draws the same numbers again. Grant: `random`. `Math.random()` is none. */
export { bucket, u64 } from "pointsman:plugin/random@0.1.0";
