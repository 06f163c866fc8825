"""What of single texts that a teacher alone was trained on reaches a student, by its distribution and by text that it writes.

    python scripts/written_canaries.py experiment=language teacher.adapt=all data.canaries=32 out=written

One teacher learns the canaries (docs/text_figures.md), one student learns from its answers, one from text that it wrote, and one
alone, all of them in as many steps. `rows=…`, `max_new_tokens=…` and `out=…` are of the written text; all other words are of the
run, as for train.py. Each text has a folder of its own in `out`, by the run's hash. The same command goes on where it was
stopped. docs/synthetic.md has the table.
"""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from distillab.commands import composition, experiment, steps
from distillab.commands.cli import ended
from distillab.commands.invocation import Invocation, home, parse
from distillab.commands.words import understood
from distillab.core.errors import UserError
from distillab.core.output import asks_for_help
from distillab.core.result import Result
from distillab.core.timer import Timer
from distillab.data.text.canaries import canaries, insertions
from distillab.data.text.synthetic.config import parse as generation
from distillab.data.text.synthetic.kept import kept_texts
from distillab.data.text.synthetic.write import generate
from distillab.export.language_model import save_language_model
from distillab.reporting.tables import Table, markdown

LENGTH = ("data.samples", "recipe.epochs", "recipe.steps")  # keys that say how long a student learns
OWN = {"out": "written", "rows": "1280", "max_new_tokens": "256"}
SYNTHETIC = ("strategy=none", "data._target_=distillab.data.text.synthetic_data.SyntheticText", "data.real=0.0")


def invocation(words: Sequence[str]) -> Invocation:
    """A run of these overrides."""
    config = OmegaConf.to_container(composition.compose([*words]), resolve=True)
    label = composition.strategy_label(config["strategy"])
    return Invocation(parse(config), label, "python scripts/written_canaries.py", words)


def save_teacher(run: Invocation, folder: Path) -> None:
    """Write the run's teacher, which the store has by now, as a folder of transformers."""
    made = steps.prepare(run.config, steps.check(run.config), Timer())
    steps.ready(made)
    save_language_model(made.networks["teacher"], made.data.info.tokenizer, folder)


def table(taught: Result, learned: Result, texts: Sequence[str], planted: Sequence[str]) -> str:
    """Exposure by role and by how often a canary was planted, and how often the canaries stand in the written text."""
    often = insertions(len(planted))
    known, roles = sorted(set(often)), taught.text.canaries.exposure
    rows = {
        "the teacher": (roles["teacher"], taught.score("teacher")),
        "the student, from its distribution": (roles["student"], taught.score("student")),
        "the student, from its text": (learned.text.canaries.exposure["student"], learned.score("student")),
        "the student alone": (roles["baseline"], taught.score("baseline")),
    }
    found = Counter()
    for text, count in zip(planted, often, strict=True):
        found[count] += sum(one.count(text.rpartition(" ")[2].rstrip(".")) for one in texts)

    def means(bits: Sequence[float]) -> list[str]:
        of = {count: [one for one, times in zip(bits, often, strict=True) if times == count] for count in known}
        return [f"{sum(each) / len(each):.1f}" for each in (*of.values(), bits)]

    lines = [[name, *means(bits), f"{score:.3f}"] for name, (bits, score) in rows.items()]
    lines.append(["secrets in the written text", *(str(found[count]) for count in known), str(found.total()), "–"])
    heads = [f"planted {count} times" for count in known]
    return markdown(Table(["exposure in bits", *heads, "all", "bits per byte"], lines))


def as_many_steps(run: Invocation, taught: Result) -> tuple[str, ...]:
    """The words by which the student of the written text, however many blocks there are, makes as many steps as the other."""
    recipe = run.config.recipe
    steps = recipe.steps or recipe.epochs * recipe.steps_of(math.ceil(taught.data.train / recipe.batch_size))
    return "data.samples=null", "recipe.epochs=null", f"recipe.steps={steps}"


def main(words: Sequence[str]) -> None:
    """Make both runs and print the table."""
    own = OWN | {key: value for key, _, value in (word.partition("=") for word in words) if key in OWN}
    words = ["data.canaries=32", *(word for word in words if word.partition("=")[0] not in OWN)]
    run, out = invocation(words), Path(own["out"]).absolute()
    count, seed = (run.config.data.get(key) for key in ("canaries", "split_seed"))
    if not count:
        raise UserError("the teacher's text needs canaries: data.canaries=32 of data=text")
    out /= home(run.config).name
    taught = experiment.run(run)
    if taught.text is None or "teacher" not in taught.text.canaries.exposure:
        raise UserError(
            "the run has no teacher of its own: choose e.g. strategy=kd, and teacher.adapt=all where it is ready-made"
        )
    if not (out / "teacher").exists():
        save_teacher(run, out / "teacher")
    how = {"teacher": out / "teacher", "out": out / "text", "source": "bos", "rows": own["rows"]}
    how |= {"sampling.max_new_tokens": own["max_new_tokens"], "device": "cpu"}
    generate(generation([f"{key}={value}" for key, value in how.items()]))
    length = as_many_steps(run, taught)
    kept = [word for word in words if word.partition("=")[0] not in LENGTH]
    learned = experiment.run(invocation([*kept, *SYNTHETIC, f"data.root={out}/text", *length]))
    print(table(taught, learned, list(kept_texts(str(out / "text"))), canaries(count, seed)))


if __name__ == "__main__":
    if asks_for_help(sys.argv[1:]):
        sys.exit(print(__doc__))
    ended(lambda: main(understood(sys.argv[1:])) or 0)
