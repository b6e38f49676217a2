/**
 * Lines in the host's log, marked with plugin, version and exchange. Grant: `log`.
 *
 * At most 16 lines an exchange, 4 KiB each. A text that is dear to make can be a function: it is called if the host wants the line.
 */
import { enabled, type Level, log } from "pointsman:plugin/log@0.1.0";

export { enabled, type Level } from "pointsman:plugin/log@0.1.0";

/** Field names and values. */
export type Fields = Record<string, string | number | boolean>;

/** A line of any level. */
export function write(level: Level, message: string | (() => string), fields: Fields = {}): void {
  if (!enabled(level)) return;
  const pairs = Object.entries(fields).map(([name, value]): [string, string] => [name, String(value)]);
  log(level, typeof message === "string" ? message : message(), pairs);
}

export const trace = (message: string | (() => string), fields?: Fields): void => write("trace", message, fields);
export const debug = (message: string | (() => string), fields?: Fields): void => write("debug", message, fields);
export const info = (message: string | (() => string), fields?: Fields): void => write("info", message, fields);
export const warn = (message: string | (() => string), fields?: Fields): void => write("warn", message, fields);
export const error = (message: string | (() => string), fields?: Fields): void => write("error", message, fields);
