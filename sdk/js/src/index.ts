/**
 * Write pointsman plugins in JavaScript or TypeScript: export the hooks that a plugin has, under their names.
 *
 * ```ts
 * import { Plan, type Routing } from "@pointsman/plugin";
 *
 * export const routing: Routing = {
 *   route(head) {
 *     if (head.promptTokens > 400) return;
 *     return Plan.to("small").or("large").because("short");
 *   },
 * };
 * ```
 *
 * `pointsman plugin build DIR` makes the component. Each namespace below that a plugin uses is an import of it, and needs its
 * grant in the configuration; what is not used is not imported.
 *
 * What it does not do: there is no clock, no chance, no network and no console in a plugin but what `clock`, `random` and `log` give.
 */
/// <reference path="../wit/plugin.d.ts" />

export type { Labels, Message, Operation, PromptRef, RequestHead, Role, Target } from "pointsman:plugin/types@0.1.0";
export type { Chunk, Request, Response } from "pointsman:plugin/request-data@0.1.0";
export { type Answer, type Caching, CacheKey, Directive, type Candidate, type Scope, type SemanticKey, type Verdict } from "./caching.ts";
export { PluginError, Rejection } from "./errors.ts";
export { type Edit, PromptChoice, type Prompting, Rewrite } from "./prompting.ts";
export { jsonAt, messages } from "./request.ts";
export { type Attempt, type Batch, ChunkStep, type Ending, type Failure, NextStep, Observe, Plan, type Review, type Routing } from "./routing.ts";

export * as clock from "./clock.ts";
export * as config from "./config.ts";
export * as embeddings from "./embeddings.ts";
export * as http from "./http.ts";
export * as kv from "./kv.ts";
export * as log from "./log.ts";
export * as metrics from "./metrics.ts";
export * as random from "./random.ts";
export * as upstreams from "./upstreams.ts";
