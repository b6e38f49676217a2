/**
 * The plugin's own `config` table. Grant: `config`.
 *
 * A setting that cannot be read is an error that names it, says why and what to write. Read the settings in `check` as well, and
 * whoever wrote the configuration sees it before any request does.
 */
import { document } from "pointsman:plugin/config@0.1.0";
import { PluginError } from "./errors.ts";

let table: Record<string, unknown> | undefined;

/** The whole table. It never changes while an instance lives, so it is read once. */
export function all(): Record<string, unknown> {
  return (table ??= JSON.parse(document()) as Record<string, unknown>);
}

/** A text. Without a default there has to be one. */
export function string(key: string, otherwise?: string): string {
  return read(key, otherwise, "a text", (value) => typeof value === "string");
}

/** A number. Without a default there has to be one. */
export function number(key: string, otherwise?: number): number {
  return read(key, otherwise, "a number", (value) => typeof value === "number");
}

/** `true` or `false`. Without a default there has to be one. */
export function boolean(key: string, otherwise?: boolean): boolean {
  return read(key, otherwise, "true or false", (value) => typeof value === "boolean");
}

/** A list of texts, such as `["a", "b"]`; empty where there is no such setting. */
export function list(key: string): string[] {
  return read(key, [], "a list of texts", (value) => Array.isArray(value) && value.every((item) => typeof item === "string"));
}

/** A table of single values, such as `{ v1 = 90, v2 = 10 }`, in the order in which it is written; empty where there is none. */
export function entries<T extends string | number | boolean>(key: string, kind: "string" | "number" | "boolean"): [string, T][] {
  const isTable = (value: unknown): boolean =>
    typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every((item) => typeof item === kind);
  return Object.entries(read<Record<string, T>>(key, {}, `a table of ${kind} values`, isTable));
}

function read<T>(key: string, otherwise: T | undefined, kind: string, fits: (value: unknown) => boolean): T {
  const value = all()[key];
  if (value === undefined) {
    if (otherwise === undefined) throw PluginError.setting(key, "is missing", "it has no default, so write one");
    return otherwise;
  }
  if (!fits(value)) throw PluginError.setting(key, `is \`${JSON.stringify(value)}\``, `write ${kind}`);
  return value as T;
}
