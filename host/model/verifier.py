"""The verifier's weights for `host/src/cache/verify/verifier.rs`: bias and weight of the cosine, fitted to pairs of our own (pairs.py).

A logistic regression by Newton's method on the cosine alone. What a difference in words costs cannot be told from pairs that a grammar makes: there every word
that differs was put there by us. Those costs stand in verifier.rs, chosen by figures on labelled pairs (README.md).

Usage: python3 verifier.py [--teacher]
"""

import argparse
import pathlib

import numpy as np

from measure import Model
from pairs import pairs
from teacher import Teacher, installed


def fit(cosines, labels, ridge=1e-3):
    """Bias and weight."""
    x = np.stack([np.ones_like(cosines), cosines], 1)
    w = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        gradient = x.T @ (labels - p) - ridge * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        w += step
        if np.abs(step).max() < 1e-8:
            break
    return w


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--teacher", action="store_true", help="for MiniLM, and not for the built-in model")
    options = arguments.parse_args()
    made = pairs()
    teacher = Teacher(installed())
    model = teacher if options.teacher else Model(pathlib.Path(__file__).with_name("built-in.bin"), teacher)
    a, b = (model.vectors(teacher.tokens([pair[side] for pair in made])) for side in (0, 1))
    bias, weight = fit(np.einsum("ij,ij->i", a, b).astype(float), np.array([pair[2] for pair in made], float))
    print(f"bias {bias:.1f}, cosine {weight:.1f}, from {len(made)} pairs")


if __name__ == "__main__":
    main()
