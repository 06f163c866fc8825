"""What a teacher's answers are worth by the bytes that a token of them takes: the gradient against the whole teacher's.

    python scripts/exchange_rate.py student=runs/sotu/<hash>/student teacher=my_teacher     # the table of docs/language.md

Of each way to keep them, on blocks of the training text: the cosine between a batch's gradient of KL(teacher ‖ student) and
that of all logits, and the bias, the length of the mean error over all batches as a share of the mean gradient's.
"""

import sys
from types import SimpleNamespace

import torch
from torch import Tensor

from distillab.data.batch import IGNORED
from distillab.data.text.datamodule import TextData
from distillab.models.causal_lm import CausalLM, pretrained_lm
from distillab.reporting.tables import Table, markdown
from distillab.strategies.kd import KD
from distillab.teachers.token_layout import TokenLayout
from distillab.training.term_inputs import sums_of_rows

DEFAULTS = {"path": "package:sotu/data/speeches", "batches": "24", "batch": "4", "student": "", "teacher": ""}
WAYS = {
    "all logits, float16": {},
    "top 2": {"top_k": 2},
    "top 9": {"top_k": 9},
    "top 28": {"top_k": 28},
    "top 28, tail=both": {"top_k": 28, "convention": "both"},
    "top 28, tail=renormalise": {"top_k": 28, "convention": "renormalise"},
    "top 75": {"top_k": 75},
    "6 draws": {"draws": 6},
    "18 draws": {"draws": 18},
    "57 draws": {"draws": 57},
    "150 draws": {"draws": 150},
}


def gradient(student: CausalLM, inputs: dict[str, Tensor], labels: Tensor, taught: Tensor) -> Tensor:
    """Of the mean KL over the tokens that have a label, with respect to the student's logits' weights, as one vector."""
    kept = labels != IGNORED
    student.zero_grad()
    rows = student(**inputs)[kept]
    (sums_of_rows({"kd": KD(1.0, temperature=1.0)}, rows, taught[kept], labels[kept])["kd"] / kept.sum()).backward()
    return torch.cat([parameter.grad.flatten() for parameter in student.parameters()])


def main(words: list[str]) -> None:
    """Print the table."""
    given = DEFAULTS | dict(word.split("=", 1) for word in words)
    data = TextData("text", path=given["path"], tokenizer=given["teacher"])
    data.prepare()
    student, teacher = (
        CausalLM(pretrained_lm(given[role]), data.info.vocabulary, data.length) for role in ("student", "teacher")
    )
    size, batches = int(given["batch"]), int(given["batches"])
    blocks = data.collection.blocks.chosen(torch.from_numpy(data.rows["train"][: size * batches]))
    layouts = {
        name: TokenLayout(data.info.vocabulary, None, "float16", how.get("top_k"), positions=data.length, **_rest(how))
        for name, how in WAYS.items()
    }
    cosines: dict[str, list[float]] = {name: [] for name in WAYS}
    errors, whole = dict.fromkeys(WAYS, 0), 0
    for first in range(0, len(blocks), size):
        index = torch.arange(first, first + size)
        batch = blocks.batch(index, 0)
        with torch.no_grad():
            live = teacher(**batch.inputs[0])
        exact = gradient(student, batch.inputs[0], batch.labels, live)
        whole = whole + exact
        for name, layout in layouts.items():
            kept = layout.decode(layout.pack(layout.narrow(SimpleNamespace(logits=live), index))).logits
            found = gradient(student, batch.inputs[0], batch.labels, kept)
            cosines[name].append(torch.cosine_similarity(found, exact, 0).item())
            errors[name] = errors[name] + found - exact
    lines = [
        [
            name,
            f"{layout.bytes_per_token:,.0f}",
            f"{sum(cosines[name]) / len(cosines[name]):.3f}",
            f"{(errors[name].norm() / whole.norm()).item():.3f}",
        ]
        for name, layout in layouts.items()
    ]
    print(markdown(Table(["kept of a token", "bytes", "gradient cosine", "bias"], lines)))


def _rest(how: dict) -> dict:
    return {key: value for key, value in how.items() if key != "top_k"}


if __name__ == "__main__":
    main(sys.argv[1:])
