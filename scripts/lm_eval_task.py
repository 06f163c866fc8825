"""Writes a run's test text as tasks of lm-evaluation-harness: `python scripts/lm_eval_task.py run=runs/sotu/<hash> out=tasks`.

`held_out_bits` scores whole documents, in bits per byte. `held_out_choice` asks which of four pieces continues one: its own
next words, or words from elsewhere in the test text; a random guess is right in a quarter of them. docs/language.md has the
command that runs them on the exported student.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from omegaconf import OmegaConf

from distillab.core.errors import UserError
from distillab.core.instantiate import build
from distillab.core.output import asks_for_help

GIVEN, ASKED = 40, 12  # words of a beginning, and of a continuation
CHOICES = 4
QUESTIONS = 500  # at most
TEXT = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
"""
BITS = """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}, {{metric: byte_perplexity}}]
"""
CHOICE = """output_type: multiple_choice
doc_to_text: "{{{{given}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: " "
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


def questions(texts: Sequence[str]) -> Iterator[dict[str, object]]:
    """Beginnings with their own continuation among others; the same for the same texts."""
    draw = Random("continuations")  # noqa: S311 - no secret: the same for the same texts
    each = [text.split() for text in texts]
    whole = GIVEN + ASKED
    pieces = [words[at : at + whole] for words in each for at in range(0, len(words) - whole + 1, whole)]
    asked = draw.sample(range(len(pieces)), min(QUESTIONS, len(pieces))) if len(pieces) >= CHOICES else []
    for place in sorted(asked):
        others = draw.sample([other for other in range(len(pieces)) if other != place], CHOICES - 1)
        order = draw.sample([place, *others], CHOICES)
        choices = [" ".join(pieces[one][GIVEN:]) for one in order]
        yield {"given": " ".join(pieces[place][:GIVEN]), "choices": choices, "answer": order.index(place)}


def main(words: Sequence[str]) -> None:
    """Write both tasks."""
    given = dict(word.partition("=")[::2] for word in words)
    if given.keys() != {"run", "out"}:
        raise UserError("give a run's folder and where to write: run=runs/sotu/<hash> out=tasks")
    config = Path(given["run"], "config.yaml")
    if not config.is_file():
        raise UserError(f"run: there is no {config}; name the folder of a finished run")
    data = build(OmegaConf.to_container(OmegaConf.load(config))["data"], "data")
    texts = [one.text for one in data.split_documents()["test"] if one.messages is None]
    rows = {"bits": [{"text": text} for text in texts], "choice": list(questions(texts))}
    out = Path(given["out"]).absolute()
    out.mkdir(parents=True, exist_ok=True)
    for kind, form in {"bits": BITS, "choice": CHOICE}.items():
        name = f"held_out_{kind}"
        file = out / f"{name}.jsonl"
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows[kind]), encoding="utf-8")
        (out / f"{name}.yaml").write_text((TEXT + form).format(name=name, file=json.dumps(str(file))), encoding="utf-8")
        print(f"{name}: {len(rows[kind])} rows")


if __name__ == "__main__":
    try:
        if asks_for_help(sys.argv[1:]):
            sys.exit(print(__doc__))
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
