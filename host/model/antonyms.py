"""Words that say the opposite of one another, from WordNet, for the guards of `host/src/cache/verify.rs`: two words a line, sorted.

Left out are those that differ by a prefix alone ("able", "unable"), for which the guards have a rule, and those of several words.

Usage: python3 antonyms.py /usr/share/wordnet > ../src/cache/verify/antonyms.txt
"""

import pathlib
import re
import sys

PREFIXES = ("un", "in", "im", "ir", "il", "dis", "non", "mis", "de", "anti")
# Said of so much that their difference is none in what is asked.
VAGUE = {"no", "some", "all", "one", "this", "that", "here", "there", "mind", "lead", "be", "differ", "have", "let", "take", "get", "act", "level", "center"}


def pairs(folder):
    for kind in ("noun", "verb", "adj", "adv"):
        senses = {}
        for line in open(pathlib.Path(folder) / f"data.{kind}", encoding="utf-8", errors="replace"):
            if line.startswith("  "):
                continue
            fields = line.split(" | ")[0].split()
            count = int(fields[3], 16)
            words = [re.sub(r"\(.*\)", "", fields[4 + 2 * place]).lower() for place in range(count)]
            at = 4 + 2 * count
            senses[fields[0]] = (words, [fields[at + 1 + 4 * place : at + 5 + 4 * place] for place in range(int(fields[at]))])
        for words, pointers in senses.values():
            for kind_of, other, _, which in pointers:
                if kind_of == "!":
                    a, b = words[int(which[:2], 16) - 1], senses[other][0][int(which[2:], 16) - 1]
                    if a.isalpha() and b.isalpha() and not {a, b} & VAGUE and not differ_by_prefix(a, b):
                        yield tuple(sorted((a, b)))


def differ_by_prefix(a, b):
    return any(x == prefix + y for prefix in PREFIXES for x, y in ((a, b), (b, a)))


if __name__ == "__main__":
    for a, b in sorted(set(pairs(sys.argv[1]))):
        print(a, b)
