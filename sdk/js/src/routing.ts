/** The hook `routing`: which model answers. */
import type { Attempt, Decision, NextStep as Raw, Plan as RawPlan, Review } from "pointsman:plugin/routing@0.1.0";
import type { Request, Response } from "pointsman:plugin/request-data@0.1.0";
import type { RequestHead, Target } from "pointsman:plugin/types@0.1.0";
import { Rejection } from "./errors.ts";

export type { Attempt, Failure, Review } from "pointsman:plugin/routing@0.1.0";

/** A plugin that chooses models. */
export interface Routing {
  /**
   * Is the configuration one to work with? Asked once, before this version takes traffic; what it throws keeps the one before it in
   * place and is shown to whoever wrote the configuration.
   */
  check?(): void;
  /** Which models are to be tried for this request, in which order. Nothing: no opinion. */
  route(head: RequestHead, request: Request): Plan | Rejection | undefined | void;
  /**
   * What follows an attempt of a plan that wants to be asked (`Plan.reviewed`, `Plan.watched`): `answer` is the answer, or what of a
   * stream has come; none if the attempt has failed. Without it an answer is accepted, and a failure followed by the next target.
   */
  afterAttempt?(head: RequestHead, request: Request, last: Attempt, answer: Response | undefined): NextStep | Rejection;
}

/** Models in the order in which they are tried. They have the names of the configuration's `[models]`. */
export class Plan implements RawPlan {
  readonly targets: Target[];
  readonly headers: [string, string][] = [];
  readonly labels: [string, string][] = [];
  reason = "";
  review?: Review;

  private constructor(model: string) {
    this.targets = [{ model }];
  }

  /** This model is tried first. */
  static to(model: string): Plan {
    return new Plan(model);
  }

  /** This one is tried when those before it have failed. A plan has at most 8. */
  or(model: string): this {
    this.targets.push({ model });
    return this;
  }

  /** Time for the whole answer of the model named last, in milliseconds. */
  within(ms: number): this {
    this.last().timeoutMs = ms;
    return this;
  }

  /** Time until the first byte of the answer of the model named last, in milliseconds. */
  firstByteWithin(ms: number): this {
    this.last().firstByteTimeoutMs = ms;
    return this;
  }

  /** Why, in a few words. The client sees it as `x-pointsman-reason`. */
  because(reason: string): this {
    this.reason = reason;
    return this;
  }

  /** A header for the upstream. A plan has at most 16, and none that the host sets itself. */
  header(name: string, value: string): this {
    this.headers.push([name, value]);
    return this;
  }

  /** Recorded with the exchange, and seen by later plugins through `request.metadata`. */
  label(name: string, value: string): this {
    this.labels.push([name, value]);
    return this;
  }

  /**
   * `Routing.afterAttempt` is asked about each attempt: about answers before the client gets any of them, and about failures. A stream
   * is held back until so many tokens have come; 1 to 4096.
   */
  reviewed(tokens: number): this {
    this.review = { answers: true, logprobs: this.review?.logprobs ?? false, tokens };
    return this;
  }

  /** `Routing.afterAttempt` is asked about attempts that have failed. */
  watched(): this {
    this.review ??= { answers: false, logprobs: false };
    return this;
  }

  /** Models say how probable each token was, where they can (`Response.meanLogprob`). */
  withLogprobs(): this {
    this.review = { ...(this.review ?? { answers: true }), logprobs: true };
    return this;
  }

  private last(): Target {
    return this.targets[this.targets.length - 1] as Target;
  }
}

/** What follows an attempt. */
export type NextStep = Raw;
export const NextStep = {
  /** The client gets this answer, or this failure. */
  accept: { tag: "accept" } as NextStep,
  /** The plan's next target. */
  fallBack: { tag: "fall-back" } as NextStep,
  /** The same target again, after so many milliseconds. */
  again: (afterMs: number): NextStep => ({ tag: "again", val: afterMs }),
  /** This model is asked next. */
  escalateTo: (model: string): NextStep => ({ tag: "escalate", val: { model } }),
};

/** From what a plugin returns to what the contract has. */
export function decision(said: ReturnType<Routing["route"]>): Decision {
  if (said === undefined) return { tag: "pass" };
  return said instanceof Rejection ? { tag: "reject", val: said } : { tag: "plan", val: said };
}

/** What follows where the plugin has no code for it, and what it says where it has. */
export function nextStep(said: NextStep | Rejection | undefined, last: Attempt): Raw {
  if (said instanceof Rejection) return { tag: "reject", val: said };
  return said ?? (last.failure === undefined ? NextStep.accept : NextStep.fallBack);
}
