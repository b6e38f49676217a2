"""What pointsman ships and says about semantic hits, made by pointsman itself from labelled pairs that it does not contain.

    python3 trust.py ship PAIRS.tsv.gz          writes a calibration for each embedder into host/src/cache/trust/shipped
    python3 trust.py table PAIRS.tsv.gz         writes the table of docs/trust.md
    python3 trust.py table --answers --most 9352 PAIRS.tsv.gz   prints the same of other halves

Pairs: TSV, compressed if named .gz, a header row, the columns a, b and label. For MiniLM, `pointsman model install minilm` comes first.

The table: questions that a pair links, whatever its label, are kept together, and such groups are dealt to two halves by chance. One half calibrates, the questions
of the other are asked, then the other way round. For each bound and embedder `pointsman cache evaluate` runs with a warm and a cold start, and with audits of which
one in fifty says the opposite of what is true. With `--answers` those questions alone are kept together that one answer serves: pairs of label 0 mostly fall apart, so that
fewer of a question's neighbours are others. With `--most` a half has no more questions than that, and is less crowded.

What it does not do: it computes no figure itself but sums and shares, and nothing of the pairs is kept or printed.

Invariant: the same pairs, binary and seed give the same files.
"""

import argparse
import csv
import gzip
import json
import pathlib
import random
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "host/src/cache/trust/shipped"
PAGE = ROOT / "docs/trust.md"
EMBEDDERS = ("built-in", "minilm")
BOUNDS = (0.01, 0.02, 0.03, 0.05, 0.10)
STARTS = (("warm", []), ("warm, 2 % of the audits mistaken", ["--audit-noise", "0.02"]),
          ("cold", ["--cold"]), ("cold, 2 % of the audits mistaken", ["--cold", "--audit-noise", "0.02"]))
BEGIN, END = "<!-- host/model/trust.py table -->\n", "<!-- end -->\n"


def read(path):
    opened = gzip.open(path, "rt", encoding="utf-8", newline="") if path.suffix == ".gz" else open(path, encoding="utf-8", newline="")
    with opened as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    places = [rows[0].index(name) for name in ("a", "b", "label")]
    return [[row[place] for place in places] for row in rows[1:]]


def halves(rows, options, seed):
    """Two lists of pairs that have no question in common. A question without a pair in its half is there as a pair with itself."""
    parent = {}

    def root(text):
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    for a, b, label in rows:
        a, b = root(a), root(b)
        if label == "1" or not options.answers:
            parent[max(a, b)] = min(a, b)
    groups = {}
    for text in parent:
        groups.setdefault(root(text), []).append(text)
    chance, sides = random.Random(seed), ({}, {})
    for group in sorted(groups):
        sides[0 if chance.random() < 0.5 else 1][group] = groups[group]
    for side in sides:
        surplus = sum(map(len, side.values())) - (options.most or len(parent))
        for group in chance.sample(list(side), len(side)):
            if surplus > 0:
                surplus -= len(side.pop(group))
    pairs = [[row for row in rows if root(row[0]) in side and root(row[1]) in side] for side in sides]
    for side, own in zip(sides, pairs):
        known = {text for a, b, _ in own for text in (a, b)}
        own += [[text, text, "1"] for texts in side.values() for text in texts if text not in known]
    return pairs


def write(path, rows):
    path.write_text("".join("\t".join(row) + "\n" for row in [["a", "b", "label"], *rows]), encoding="utf-8")


def pointsman(options, *arguments):
    return subprocess.run([options.binary, "cache", *arguments], check=True, capture_output=True, text=True).stdout


def ship(options):
    for embedder in options.embedders:
        pairs = [part for path in options.pairs for part in ("--pairs", str(path))]
        # What texts of the same words are worth is taken from the model that everybody has.
        of_any = ["--out-any", str(SHIPPED / "any.json")] if embedder == "built-in" else []
        print(pointsman(options, "calibrate", *pairs, "--embedder", embedder, "--out", str(SHIPPED / f"{embedder}.json"), *of_any))


def evaluate(options, seed, files, embedder, start):
    said = pointsman(options, "evaluate", "--calibrate", str(files[0]), "--stream", str(files[1]), "--embedder", embedder,
                     "--wrong-hits", ",".join(map(str, BOUNDS)), "--seed", str(seed), "--json", *dict(STARTS)[start])
    print(seed, embedder, start, [(run["hits"], run["wrong"]) for run in json.loads(said)], flush=True)
    return [((embedder, start, run["wrong_hits"]), run) for run in json.loads(said)]


def table(options):
    rows = [row for path in options.pairs for row in read(path)]
    lines = ["| embedder | start | `wrong_hits` | hits | wrong | bound kept |\n", "|---|---|---|---|---|---|\n"]
    runs = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as workers:
        asked = []
        for split in range(options.splits):
            files = [pathlib.Path(folder) / f"{name}-{split}.tsv" for name in "ab"]
            for file, half in zip(files, halves(rows, options, split)):
                write(file, half)
            for way in (files, files[::-1])[: options.ways]:
                asked += [workers.submit(evaluate, options, split + 1, way, embedder, start) for embedder in options.embedders for start, _ in STARTS]
        for done in asked:
            for name, run in done.result():
                runs.setdefault(name, []).append(run)
    for (embedder, start, bound), of in runs.items():
        requests, hits, wrong = (sum(run[name] for run in of) for name in ("requests", "hits", "wrong"))
        kept = sum(run["wrong"] <= bound * run["hits"] for run in of)
        share = f"{100 * wrong / hits:.2f} %" if hits else "-"
        lines.append(f"| {embedder} | {start} | {bound:.2f} | {100 * hits / requests:.1f} % | {share} | {kept} of {len(of)} |\n")
    if options.answers or options.most:
        return print("".join(lines))
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + "".join(lines) + "\n" + END + rest.split(END)[1], encoding="utf-8")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("what", choices=("ship", "table"))
    arguments.add_argument("pairs", nargs="+", type=pathlib.Path)
    arguments.add_argument("--binary", default=str(ROOT / "target/release/pointsman"))
    arguments.add_argument("--embedders", default=",".join(EMBEDDERS), type=lambda text: text.split(","))
    arguments.add_argument("--splits", default=2, type=int, help="how often the pairs are dealt to two halves")
    arguments.add_argument("--answers", action="store_true", help="only questions of one answer are kept together")
    arguments.add_argument("--most", default=0, type=int, help="the most questions of a half; 0: all")
    arguments.add_argument("--ways", default=2, type=int, help="1: only the first half calibrates")
    arguments.add_argument("--jobs", default=1, type=int, help="runs at a time")
    options = arguments.parse_args()
    (ship if options.what == "ship" else table)(options)


if __name__ == "__main__":
    main()
