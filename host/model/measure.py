"""Figures on labelled pairs: how well cosines tell pairs that share an answer from pairs that do not, and what a cut on
them does, with and without the guards of `host/src/cache/verify.rs`.

Pairs: TSV (gzip if named .gz), a header row, the last three columns text, text, 1 or 0. Vetoes: a line per pair, `-` where
no guard objects; `cargo run -p pointsman --example vetoes` writes it.

What it does not do: nothing of the pairs is kept or printed.

Usage: python3 measure.py [--model built-in.bin | --teacher] --pairs PAIRS.tsv.gz [--vetoes VETOES.txt]
"""

import argparse
import csv
import gzip
import pathlib
import struct

import numpy as np

from teacher import Teacher, installed

CUTS = (-1, 0.7, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)


class Model:
    """Reads what distil.py writes, as host/src/embed/built_in.rs does."""

    def __init__(self, path, teacher):
        file = pathlib.Path(path).read_bytes()
        magic, version, tokens, dimensions, _ = struct.unpack("<4sIIII", file[:20])
        assert (magic, version) == (b"PMEM", 1), path
        at = 20
        offsets = np.frombuffer(file, "<u4", tokens + 1, at)
        at += offsets.nbytes
        scales = np.frombuffer(file, "<f2", tokens, at).astype(np.float32)
        at += tokens * 2
        packed = np.frombuffer(file, np.uint8, tokens * dimensions // 2, at).reshape(tokens, -1)
        texts = file[at + packed.size :]
        values = np.stack([packed & 15, packed >> 4], 2).reshape(tokens, dimensions).astype(np.float32) - 8
        place = {texts[a:b].decode(): row for row, (a, b) in enumerate(zip(offsets, offsets[1:]))}
        self.table = np.zeros((len(teacher.vocabulary()), dimensions), np.float32)
        for token, text in enumerate(teacher.vocabulary()):
            if text in place:
                self.table[token] = values[place[text]] * scales[place[text]]

    def vectors(self, tokens):
        return unit(np.array([self.table[ids[1:-1]].sum(0) for ids in tokens]))


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def auc(scores, labels):
    """The chance that a pair that shares an answer scores higher than one that does not; ties count half."""
    order = np.unique(scores, return_inverse=True)[1]
    sizes = np.bincount(order)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[order]
    positive = labels.sum()
    return (ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))


def wilson(wrong, of, z=1.959964):
    """Upper 95 % bound of a share."""
    if not of:
        return 1.0
    p = wrong / of
    return (p + z * z / (2 * of) + z * np.sqrt(p * (1 - p) / of + z * z / (4 * of * of))) / (1 + z * z / of)


def report(scores, labels, passed):
    if 0 < labels.sum() < len(labels):
        print(f"AUC {auc(scores, labels):.4f} on {len(labels)} pairs")
    print("cosine >=      hits  of true     wrong    bound")
    for cut in CUTS:
        hit = (scores >= cut) & passed
        hits, wrong = hit.sum(), (hit & (labels == 0)).sum()
        share = wrong / hits if hits else 0.0
        kept = (hit & (labels == 1)).sum() / max(labels.sum(), 1)
        print(f"     {cut:.2f} {hits:9d}  {kept:7.2%}  {share:7.2%}  {wilson(wrong, hits):7.2%}")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--model", default=pathlib.Path(__file__).with_name("built-in.bin"), type=pathlib.Path)
    arguments.add_argument("--teacher", action="store_true", help="measure the teacher itself")
    arguments.add_argument("--pairs", required=True)
    arguments.add_argument("--vetoes")
    options = arguments.parse_args()
    opened = gzip.open if options.pairs.endswith(".gz") else open
    with opened(options.pairs, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    labels = np.array([int(row[-1]) for row in rows])
    teacher = Teacher(installed())
    model = teacher if options.teacher else Model(options.model, teacher)
    a, b = (model.vectors(teacher.tokens([row[column] for row in rows])) for column in (-3, -2))
    scores = np.einsum("ij,ij->i", a, b)
    passed = np.ones(len(rows), bool)
    if options.vetoes:
        passed = np.array([line == "-" for line in pathlib.Path(options.vetoes).read_text().splitlines()])
    assert len(passed) == len(rows), "a line per pair"
    report(scores, labels, passed)


if __name__ == "__main__":
    main()
