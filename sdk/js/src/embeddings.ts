/**
 * Meaning, by the host's embedding model and the example sets of `[examples.NAME]`. Grant: `embeddings`.
 *
 * The vector of the last user message is computed once per exchange, shared by cache and plugins. Where there is none, the functions
 * throw: the request goes on without this plugin. `nearest` goes on without the vector instead.
 */
import { classify, type Match } from "pointsman:plugin/embeddings@0.1.0";
import { hostError } from "./errors.ts";

export { classify, embed, type Match, promptEmbedding, similarity } from "pointsman:plugin/embeddings@0.1.0";

/** The label of an example set that the last user message is nearest to; none where the host cannot say. */
export function nearest(examples: string): Match | undefined {
  try {
    return classify(examples, 1)[0];
  } catch (thrown) {
    if (hostError(thrown) === undefined) throw thrown;
    return undefined;
  }
}
