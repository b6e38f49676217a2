/**
 * Numbers on the host's `/metrics`, as `pointsman_plugin_NAME{plugin=…}`. Grant: `metrics`.
 *
 * An instrument is declared by its first use: its name in lower case with `_`, and one kind for all of its series. At most 32
 * instruments and 256 series a plugin; what is over is dropped and counted.
 */
import * as metrics from "pointsman:plugin/metrics@0.1.0";

type Labels = Record<string, string>;

/** Adds to a counter. */
export function increment(name: string, by = 1, labels: Labels = {}): void {
  metrics.increment(name, BigInt(by), Object.entries(labels));
}

/** Sets a gauge. */
export function gauge(name: string, to: number, labels: Labels = {}): void {
  metrics.gauge(name, to, Object.entries(labels));
}

/** Adds a value to a histogram over powers of two, from 2^-10 to 2^20. */
export function observe(name: string, value: number, labels: Labels = {}): void {
  metrics.observe(name, value, Object.entries(labels));
}
