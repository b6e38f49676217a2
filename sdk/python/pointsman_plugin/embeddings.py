"""Meaning, by the host's embedding model and the example sets of `[examples.NAME]`. Grant: `embeddings`.

The vector of the last user message is computed once per exchange, shared by cache and plugins. Where there is none, the functions raise:
the request goes on without this plugin. `nearest` goes on without the vector instead.
"""

from componentize_py_types import Err
from pointsman_wit.imports.embeddings import Match, classify, embed, prompt_embedding, similarity

__all__ = ["Match", "classify", "embed", "nearest", "prompt_embedding", "similarity"]


def nearest(examples: str) -> Match | None:
    """The label of an example set that the last user message is nearest to; none where the host cannot say."""
    try:
        found = classify(examples, 1)
    except Err:
        return None
    return found[0] if found else None
