/** The hook `prompting`: which version of which prompt, and what else changes in the request. */
import type { Edit, Outcome, PromptChoice as RawChoice, Rewrite as RawRewrite } from "pointsman:plugin/prompting@0.1.0";
import type { Request } from "pointsman:plugin/request-data@0.1.0";
import type { PromptRef, RequestHead } from "pointsman:plugin/types@0.1.0";
import { Rejection, unlike } from "./errors.ts";

export type { Edit } from "pointsman:plugin/prompting@0.1.0";

/** A plugin that chooses prompts, or edits requests. */
export interface Prompting {
  /** As in `Routing`. */
  check?(): void;
  /** What is to be rendered into this request, or changed in it. Nothing: no opinion. */
  select(head: RequestHead, request: Request): PromptChoice | Rewrite | Rejection | undefined | void;
}

/** A version of a prompt in the configuration's `[prompts]` folder. */
export class PromptChoice implements RawChoice {
  readonly prompt: PromptRef;
  readonly labels: [string, string][] = [];
  experiment?: [string, string];

  private constructor(name: string, version?: string) {
    this.prompt = { name, version };
  }

  /** No version: the pinned one, or else the newest. */
  static of(name: string, version?: string): PromptChoice {
    return new PromptChoice(name, version);
  }

  /** The experiment that it was chosen by, and its arm. Both are recorded with the answer. */
  arm(experiment: string, arm: string): this {
    this.experiment = [experiment, arm];
    return this;
  }

  /** Recorded with the exchange, and seen by later plugins through `request.metadata`. */
  label(name: string, value: string): this {
    this.labels.push([name, value]);
    return this;
  }
}

/** Changes in the request, applied in order. */
export class Rewrite implements RawRewrite {
  readonly edits: Edit[];
  choice?: PromptChoice;

  private constructor(edits: Edit[]) {
    this.edits = edits;
  }

  static by(...edits: Edit[]): Rewrite {
    return new Rewrite(edits);
  }

  /** The prompt that is rendered before the edits; one that the registry does not have is recorded only. */
  of(choice: PromptChoice): this {
    this.choice = choice;
    return this;
  }
}

/** From what a plugin returns to what the contract has. */
export function outcome(said: ReturnType<Prompting["select"]>): Outcome {
  if (said == null) return { tag: "pass" };
  if (said instanceof Rejection) return { tag: "reject", val: said };
  if (said instanceof PromptChoice) return { tag: "choose", val: said };
  if (Array.isArray(said.edits)) return { tag: "rewrite", val: said };
  throw unlike("select", said, "a PromptChoice, a Rewrite, a Rejection or nothing");
}
