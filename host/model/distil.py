"""Distils the built-in embedding model from all-MiniLM-L6-v2 (Apache-2.0), on text that is free to use.

Output: one vector per WordPiece token, such that the cosine of two texts' sums comes close to the teacher's cosine. What is
lost is everything that depends on word order.

  1. texts.py makes the texts, teacher.py their sentence vectors
  2. start: the teacher's vector of each token alone, weighted a / (a + frequency)
  3. fit: ridge regression of token vectors to the sentence vectors, pulled towards the start; then the 256 best of 384
     dimensions
  4. tune: gradient steps until the cosines between texts are the teacher's, among any texts and among texts that are near
  5. 4 bits a value, with a scale per token

Invariant: the same texts, teacher and libraries give the same file, byte for byte, on the same kind of processor.

Usage: python3 distil.py --out built-in.bin   (see README.md)
"""

import argparse
import hashlib
import pathlib
import struct

from teacher import Teacher, installed  # Before numpy: it settles how many threads numpy has.

import numpy as np
import scipy.sparse as sparse

import texts

SEED = 7
DIMENSIONS = 256
# Where a token is rarer than this share of all, its weight is near one.
SIF = 1e-3
RIDGE = 0.1
ROUNDS, ITERATIONS = 2, 12
EPOCHS, BATCH, STEP = 10, 1024, 0.01


def taught(teacher, tokens, cache, say):
    """The teacher's vectors of all tokens alone, and of the texts; kept in `cache`, for as long as they are of these texts."""
    digest = hashlib.sha256(repr(tokens).encode()).hexdigest()
    if cache and cache.exists():
        kept = np.load(cache)
        if str(kept["digest"]) == digest:
            return kept["alone"], kept["sentences"]
    alone = teacher.vectors([[101, token, 102] for token in range(len(teacher.vocabulary()))])
    say("teacher: tokens done")
    sentences = teacher.vectors(tokens)
    say("teacher: texts done")
    if cache:
        np.savez(cache, digest=digest, alone=alone, sentences=sentences)
    return alone, sentences


def counts(tokens, weight):
    """Sparse rows: the share of each token in the weighted mean of its text."""
    inner = [ids[1:-1] for ids in tokens]
    columns = np.concatenate([np.array(ids, np.int32) for ids in inner])
    lengths = np.array([len(ids) for ids in inner])
    values = weight[columns] / np.repeat(np.maximum(lengths, 1), lengths)
    x = sparse.csr_matrix((values.astype(np.float32), columns, np.concatenate([[0], np.cumsum(lengths)])), (len(tokens), len(weight)))
    x.sum_duplicates()
    return x


def fit(x, sentences, start):
    """(X'X + ridge) d = X'(scale T - X w) - ridge (w - start), by conjugate gradients with the diagonal as preconditioner. The
    length of each text's target is free, since only its direction counts; it is what the round before came to."""
    w = start.copy()
    transposed = x.T.tocsr()
    diagonal = np.asarray(x.multiply(x).sum(0)).ravel()
    ridge = np.float32(RIDGE * diagonal.mean())
    inverse = (1 / (diagonal + ridge)).astype(np.float32)[:, None]
    for _ in range(ROUNDS):
        predicted = x @ w
        scale = (predicted * sentences).sum(1)
        scale = np.clip(scale, 0.2 * scale.mean(), 3 * scale.mean())
        r = transposed @ (sentences * scale[:, None] - predicted) - ridge * (w - start)
        z = inverse * r
        p, rz = z.copy(), (r * z).sum(0)
        for _ in range(ITERATIONS):
            q = transposed @ (x @ p) + ridge * p
            step = rz / np.maximum((p * q).sum(0), 1e-20)
            w += step * p
            r -= step * q
            z = inverse * r
            before, rz = rz, (r * z).sum(0)
            p = z + (rz / np.maximum(before, 1e-20)) * p
    return w


def reduce(table, x):
    """The directions in which texts differ most. Their signs are settled, so that nothing depends on the library's choice."""
    predicted = x @ table
    _, axes = np.linalg.eigh((predicted.T @ predicted).astype(np.float64))
    axes = axes[:, ::-1][:, :DIMENSIONS]
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(DIMENSIONS)])
    return table @ axes.astype(np.float32)


def batches(sentences, near, rng):
    """Places of texts in batches: by chance, or those that lie near the same one of some texts taken by chance."""
    order = rng.permutation(len(sentences))
    if near:
        centres = sentences[order[: len(order) // BATCH]]
        nearest = np.concatenate([(part @ centres.T).argmax(1) for part in np.array_split(sentences[order], 20)])
        order = order[np.argsort(nearest, kind="stable")]
    parts = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
    return [parts[place] for place in rng.permutation(len(parts))]


def tune(table, x, sentences, say):
    """Least squares on the cosines within a batch, by gradient descent; the step of each token shrinks as its gradients add
    up (Adagrad, one number a row), and all steps shrink towards the end."""
    rng = np.random.default_rng(SEED)
    table = table.copy()
    size = np.sqrt((table[np.asarray(x.sum(0)).ravel() > 0] ** 2).sum(1).mean())
    seen = np.full((len(table), 1), 1e-8, np.float32)
    for epoch in range(EPOCHS):
        step = np.float32(STEP * size * (1 - epoch / EPOCHS))
        loss = []
        for places in batches(sentences, epoch % 2 == 0, rng):
            part = x[places]
            sums = part @ table
            length = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
            unit = sums / length
            off = unit @ unit.T - sentences[places] @ sentences[places].T
            np.fill_diagonal(off, 0)
            loss.append(float((off * off).mean()))
            gradient = off @ unit * np.float32(4 / len(places))
            gradient -= (gradient * unit).sum(1, keepdims=True) * unit
            rows = np.unique(part.indices)
            gradient = part.T.tocsr()[rows] @ (gradient / length)
            seen[rows] += (gradient * gradient).mean(1, keepdims=True)
            table[rows] -= step * gradient / np.sqrt(seen[rows])
        say(f"tune: mean squared error of the cosines {np.mean(loss):.5f}")
    return table


def quantise(table):
    """4 bits a value: -7..7 times a scale per token, the one of nine that fits the row best."""
    # Half precision has few digits below 6e-5; a common factor changes no cosine.
    table = table / np.abs(table).max()
    largest = np.abs(table).max(1) / 7
    best, error = np.zeros(len(table), np.float16), np.full(len(table), np.inf)
    for factor in np.linspace(0.6, 1.0, 9):
        scale = (largest * factor).astype(np.float16)
        e = ((rounded(table, scale) * scale[:, None].astype(np.float32) - table) ** 2).sum(1)
        best, error = np.where(e < error, scale, best), np.minimum(e, error)
    return rounded(table, best), best


def rounded(table, scale):
    return np.clip(np.rint(table / np.maximum(scale[:, None].astype(np.float32), 1e-12)), -7, 7).astype(np.int8)


def write(path, vocabulary, q, scale):
    """Layout (little endian): b"PMEM", u32 version = 1, u32 tokens, u32 dimensions, u32 bytes of text; then the offsets of
    the tokens (u32 x tokens + 1), scales (f16 x tokens), values (two 4-bit values + 8 a byte, low one first), and the
    tokens' text, sorted by bytes."""
    order = sorted(range(len(vocabulary)), key=lambda i: vocabulary[i].encode())
    text = [vocabulary[i].encode() for i in order]
    offsets = np.cumsum([0] + [len(t) for t in text]).astype("<u4")
    nibbles = (q[order] + 8).astype(np.uint8)
    packed = nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)
    body = b"".join(text)
    with open(path, "wb") as out:
        out.write(b"PMEM" + struct.pack("<IIII", 1, len(text), q.shape[1], len(body)))
        out.write(offsets.tobytes() + scale[order].astype("<f2").tobytes() + packed.tobytes() + body)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", default="built-in.bin", type=pathlib.Path)
    arguments.add_argument("--wordnet", default="/usr/share/wordnet", type=pathlib.Path)
    arguments.add_argument("--teacher", type=pathlib.Path, help="folder of the teacher; default: the installed package's")
    arguments.add_argument("--shorter", default=12_000, type=int, help="texts of WordNet that are taken without a word, too")
    arguments.add_argument("--groups", default=26_666, type=int, help="groups of three texts that the grammar makes")
    arguments.add_argument("--cache", type=pathlib.Path, help="file (.npz) to keep the teacher's vectors in between runs")
    arguments.add_argument("--stages", action="store_true", help="also write OUT.start and OUT.fit, to measure each stage")
    options = arguments.parse_args()
    say = lambda text: print(text, flush=True)
    teacher = Teacher(options.teacher or installed())
    tokens = teacher.tokens(texts.corpus(options.wordnet, options.shorter, options.groups, SEED))
    say(f"{len(tokens)} texts, {sum(map(len, tokens)) / len(tokens):.1f} tokens each")
    alone, sentences = taught(teacher, tokens, options.cache, say)

    vocabulary = teacher.vocabulary()
    keep = np.array([not (t.startswith("[") and t.endswith("]")) or t == "[UNK]" for t in vocabulary])
    frequency = np.bincount(np.concatenate([ids[1:-1] for ids in tokens]).astype(int), minlength=len(vocabulary)) + 0.5
    weight = np.where(keep, SIF / (SIF + frequency / frequency.sum()), 0).astype(np.float32)

    def save(table, suffix=""):
        q, scale = quantise(table[keep])
        write(str(options.out) + suffix, [t for t, k in zip(vocabulary, keep) if k], q, scale)

    x = counts(tokens, weight)
    table = fit(x, sentences, alone)
    if options.stages:
        save(reduce(alone, x) * weight[:, None], ".start")
        save(reduce(table, x) * weight[:, None], ".fit")
    table = tune(reduce(table, x) * weight[:, None], counts(tokens, keep.astype(np.float32)), sentences, say)
    save(table)
    say(f"{options.out}: {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
