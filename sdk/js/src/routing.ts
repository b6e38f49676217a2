/** The hook `routing`: which model answers. */
import type {
  Attempt, Batch, ChunkStep as RawStep, Decision, Ending, NextStep as Raw, Observe as RawObserve, Observed, Plan as RawPlan, Review,
} from "pointsman:plugin/routing@0.1.0";
import type { Chunk, Request, Response } from "pointsman:plugin/request-data@0.1.0";
import type { RequestHead, Target } from "pointsman:plugin/types@0.1.0";
import { Rejection, unlike } from "./errors.ts";

export type { Attempt, Batch, Ending, Failure, Review } from "pointsman:plugin/routing@0.1.0";

/** A plugin that chooses models. */
export interface Routing {
  /**
   * Is the configuration one to work with? Asked once, before this version takes traffic; what it throws keeps the one before it in
   * place and is shown to whoever wrote the configuration.
   */
  check?(): void;
  /** Which models are to be tried for this request, in which order. Nothing: no opinion. */
  route(head: RequestHead, request: Request): Plan | Observe | Rejection | undefined | void;
  /**
   * What follows an attempt of a plan that wants to be asked (`Plan.reviewed`, `Plan.watched`): `answer` is the answer, or what of a
   * stream has come; none if the attempt has failed. Without it an answer is accepted, and a failure followed by the next target.
   */
  afterAttempt?(head: RequestHead, request: Request, last: Attempt, answer: Response | undefined): NextStep | Rejection;
  /**
   * May the client have this part of an answer? Asked batch after batch about answers that the plugin wants to observe (`Plan.observed`,
   * `Observe`). `state` is what it gave back last (`ChunkStep.keeping`); what an instance keeps itself another one may not find.
   */
  onChunk?(head: RequestHead, request: Request, part: Batch, chunk: Chunk, state: Uint8Array): ChunkStep | Observed | Rejection;
}

/** No opinion about the model: whoever answers, `Routing.onChunk` is asked after each so many events, or so many milliseconds. */
export class Observe implements RawObserve {
  constructor(
    readonly events?: number,
    readonly ms?: number,
  ) {}
}

/** Models in the order in which they are tried. They have the names of the configuration's `[models]`. */
export class Plan implements RawPlan {
  readonly targets: Target[];
  readonly headers: [string, string][] = [];
  readonly labels: [string, string][] = [];
  reason = "";
  review?: Review;
  observe?: RawObserve;

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

  /** `Routing.onChunk` is asked about the answer, after each so many events, or so many milliseconds. */
  observed(events?: number, ms?: number): this {
    this.observe = { events, ms };
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

/** What becomes of a batch. */
export type ChunkStep = RawStep;
export const ChunkStep = {
  /** The client gets it; the plugin is asked about the next one. */
  goOn: { tag: "go-on" } as ChunkStep,
  /** The client gets it and all that follows; the plugin is not asked again. */
  enough: { tag: "enough" } as ChunkStep,
  /** The client gets none of it: the answer ends before it. */
  stop: (ending: Ending = "content-filter"): ChunkStep => ({ tag: "stop", val: ending }),
  /** This model answers in its place. Only where nothing has gone to the client. */
  escalateTo: (model: string): ChunkStep => ({ tag: "escalate", val: { model } }),
  /** The same, and what the plugin wants to find at its next batch of this answer: at most 4,096 bytes. */
  keeping: (step: ChunkStep, state: Uint8Array): Observed => ({ step, state }),
};

/** From what a plugin returns to what the contract has. */
export function decision(said: ReturnType<Routing["route"]>): Decision {
  if (said == null) return { tag: "pass" };
  if (said instanceof Observe) return { tag: "observe", val: said };
  if (said instanceof Rejection) return { tag: "reject", val: said };
  if (Array.isArray(said.targets)) return { tag: "plan", val: said };
  throw unlike("route", said, "a Plan, an Observe, a Rejection or nothing");
}

/** What follows where the plugin has no code for it, and what it says where it has. */
export function nextStep(said: NextStep | Rejection | undefined, last: Attempt): Raw {
  if (said instanceof Rejection) return { tag: "reject", val: said };
  if (said == null) return last.failure === undefined ? NextStep.accept : NextStep.fallBack;
  if (typeof said.tag === "string") return said;
  throw unlike("afterAttempt", said, "a NextStep, a Rejection or nothing");
}

/** As `decision`. */
export function observed(said: ChunkStep | Observed | Rejection | undefined): Observed {
  const state = new Uint8Array();
  if (said instanceof Rejection) return { step: { tag: "reject", val: said }, state };
  if (said == null) return { step: ChunkStep.enough, state };
  if (typeof said === "object" && "step" in said) return said;
  if (typeof said.tag === "string") return { step: said, state };
  throw unlike("onChunk", said, "a ChunkStep, a Rejection or nothing");
}
