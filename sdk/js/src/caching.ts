/**
 * The hook `caching`: which requests may share an answer.
 *
 * Nothing that a plugin says makes two tenants share: the host puts the tenant before every key.
 */
import type { CacheKey as Raw, Candidate, Directive as RawDirective, Scope, SemanticKey, Verdict } from "pointsman:plugin/caching@0.1.0";
import type { Request, Response } from "pointsman:plugin/request-data@0.1.0";
import type { RequestHead } from "pointsman:plugin/types@0.1.0";
import { unlike } from "./errors.ts";

export type { Candidate, Scope, SemanticKey, Verdict } from "pointsman:plugin/caching@0.1.0";
/** An answer that is there. */
export type Answer = Response;

/** A plugin that says what may be shared. */
export interface Caching {
  /** As in `Routing`. */
  check?(): void;
  /** What another request must have in common with this one to get its answer. Nothing: no opinion. */
  key(head: RequestHead, request: Request): CacheKey | Directive | undefined | void;
  /** May this near hit be served? Asked if the key says so. Without it: yes. */
  confirm?(head: RequestHead, request: Request, hit: Candidate): Verdict;
  /** May this answer be kept? Asked if the key says so. `true`, `false`, or for how many milliseconds at most. Without it: yes. */
  admit?(head: RequestHead, request: Request, answer: Answer): boolean | number;
}

/** What requests have to have in common. */
export class CacheKey implements Raw {
  readonly scope: Scope;
  exact?: string[];
  semantic?: SemanticKey;
  ttlMs?: number;
  generation?: string;
  admit = false;

  private constructor(scope: Scope) {
    this.scope = scope;
  }

  /** Requests that `scope` holds together share, if they are equal: `tenant`, `principal`, or a part of the tenant that you name. */
  static of(scope: "tenant" | "principal" | { custom: string }): CacheKey {
    return new CacheKey(typeof scope === "string" ? { tag: scope } : { tag: "custom", val: scope.custom });
  }

  /**
   * Stands for the text of the last user message in the exact key, say because it is written in one way only. Called again, it adds a
   * part. The rest of the request is always part of the key.
   */
  text(part: string): this {
    (this.exact ??= []).push(part);
    return this;
  }

  /** Requests of nearly the same meaning may share as well. */
  near(key: Partial<SemanticKey> = {}): this {
    this.semantic = { ...key, partition: key.partition ?? [], confirm: key.confirm ?? false };
    return this;
  }

  /** How long an answer is kept, in milliseconds. */
  ttl(ms: number): this {
    this.ttlMs = ms;
    return this;
  }

  /** Entries of another generation are not found. */
  inGeneration(name: string): this {
    this.generation = name;
    return this;
  }

  /** `Caching.admit` is asked before an answer is kept. */
  admitted(): this {
    this.admit = true;
    return this;
  }
}

/** More than a key can say. */
export type Directive = RawDirective;
export const Directive = {
  /** Neither look up nor store. */
  bypass: { tag: "bypass" } as Directive,
  /** Look up, do not store. */
  readOnly: (key: CacheKey): Directive => ({ tag: "read-only", val: key }),
  /** Store, do not look up. */
  refresh: (key: CacheKey): Directive => ({ tag: "refresh", val: key }),
};

/** The longest time that the contract can say: the host takes the shorter of this and the key's. */
const LONGEST = 2 ** 32 - 1;

/** From what a plugin returns to what the contract has. */
export function directive(said: ReturnType<Caching["key"]>): RawDirective {
  if (said == null) return { tag: "pass" };
  if (said instanceof CacheKey) return { tag: "key", val: said };
  if (typeof said.tag === "string") return said;
  throw unlike("key", said, "a CacheKey, a Directive or nothing");
}

/** As `directive`. */
export function verdict(said: Verdict | undefined): Verdict {
  if (said != null && said !== "serve" && said !== "veto") throw unlike("confirm", said, "\"serve\", \"veto\" or nothing");
  return said ?? "serve";
}

/** As `directive`. */
export function admission(said: boolean | number | undefined): number | undefined {
  if (typeof said === "number") return Math.min(Math.max(0, Math.trunc(said)), LONGEST);
  // A Promise is neither yes nor no, whatever it comes to.
  if (said != null && typeof said !== "boolean") throw unlike("admit", said, "a boolean, a number of milliseconds or nothing");
  return said === false ? undefined : LONGEST;
}
