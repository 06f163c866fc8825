"""The table of all methods: read from the strategies' files and code, measured on one pair of networks."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from page_tables import table

from distillab.commands.composition import conf_dir
from distillab.core.files import replacing, write_json
from distillab.core.task_numbers import FOR, for_task, serves
from distillab.reporting.metric_table import NOTHING, count
from distillab.strategies.base import Schedule, Term
from distillab.strategies.strategy import Strategy
from distillab.tasks.image_classification import ImageClassification
from methods_page.published import Published, read
from methods_page.step_cost import BATCH, SHAPE, STUDENT, TEACHER, measure, models

COLUMNS = ("method", "family", "paper", "year", "terms", "needs", "phases", "extra parameters", "published", "step")
RIGHT = ("year", "extra parameters", "published", "step")
OUTPUTS = {"logits", "token_logits", "labels", "head", "written"}  # a method that reads no more is one on logits

FAMILIES = """\
Families follow from what a method's terms read: *logit* only logits, *feature* maps or embeddings sample by sample,
*relation* maps or embeddings of a whole batch at once, *contrastive* embeddings against a memory of samples, *two views*
a weak and a strong view of each sample."""


def page(docs: Path) -> str:
    """The whole page in Markdown.

    Args:
        docs: the folder of published.yaml and, where there are such, step_cost.json and comparison.csv.
    """
    strategies = _strategy_files()
    published = read(docs)
    cost = stored_cost(docs)
    teacher, student = (model.info for model in models())
    rows = []
    for name, text in strategies.items():
        file = yaml.safe_load(text)
        nodes = for_task(file, None)
        strategy = Strategy.of(nodes)
        if _serves_the_pair(file):
            strategy.connect(student, teacher, seed=0)
        paper, year = paper_and_year(text)
        seconds = cost["seconds"].get(name)
        rows.append(
            {
                "method": f"`{name}`",
                "family": _family(strategy),
                "paper": paper,
                "year": year,
                "terms": _terms(nodes)
                + "".join(f"; {task}: {_terms(for_task(file, task))}" for task in file.get(FOR, {})),
                "needs": _needs(strategy),
                "phases": _phases(strategy),
                "extra parameters": _extra_parameters(strategy),
                "published": _figure(published.top1(name, TEACHER, STUDENT)),
                "step": f"{seconds / cost['seconds']['none']:.1f}×" if seconds else NOTHING,
            }
        )
    parts = [
        "# Methods",
        "Made by `python scripts/methods.py` from `conf/strategy` and the code. Numbers in `terms` are the defaults, "
        "published for CIFAR-100, or for language; behind a task's name stand its own. Any of them is changed by its name, as "
        "in `strategy.kd.temperature=2`.",
        _table(COLUMNS, rows, RIGHT),
        FAMILIES,
        "*Phases* are shares of the epochs, the terms that act in them, and → what they train; the epochs of one *before the "
        "others* come on top of the recipe's. A term of another method (`strategy=[ft,attention]`) acts in the last. Times in percent "
        "(*warmup*, *ramp*, *hold*, *cosine*) are shares of the epochs too, of 240 in the papers.",
        f"*Extra parameters* are those that a method trains beside the student (*shipped*: they, and what they need of the "
        f"teacher, are deployed with it), *published* is its top-1 on CIFAR-100, both for {TEACHER} → {STUDENT}. "
        f"{published.about}",
        _about_cost(cost),
        _different(published),
        _comparison(docs),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write(docs: Path, measured: bool = False) -> None:
    """Write methods.md into `docs`, after new measurements where `measured`."""
    if measured:
        files = {name: yaml.safe_load(text) for name, text in _strategy_files().items()}
        write_json(docs / "step_cost.json", measure({k: file for k, file in files.items() if _serves_the_pair(file)}))
    with replacing(docs / "methods.md") as temporary:
        temporary.write_text(page(docs))


# ---------------------------------------------------------------------- what the files and the terms say


def _strategy_files() -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted((conf_dir() / "strategy").glob("*.yaml"))}


def _serves_the_pair(file: Mapping[str, Any]) -> bool:
    """Whether the two networks of the table can learn by a method: convolutional ones have no distillation token."""
    if not serves(file, ImageClassification.name):
        return False
    return "token_logits" not in Strategy.of(for_task(file, None)).needs("student")


def paper_and_year(text: str) -> tuple[str, str]:
    """The file's first line with a link, and the year: as written there, else of the arXiv number."""
    line = text.splitlines()[0].removeprefix("#").strip().rstrip(".")
    arxiv = re.search(r"arXiv ((\d\d)\d\d\.\d{4,5})", line)
    written = re.search(r"\b(19|20)\d\d\b(?!\.)", line)
    year = written.group() if written else f"20{arxiv.group(2)}" if arxiv else NOTHING
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[\1](https://arxiv.org/abs/\1)", line), year


def _distilling(strategy: Strategy) -> list[Term]:
    return [term for term in strategy.terms.values() if term.kind == "distil"]


def _family(strategy: Strategy) -> str:
    def of(term: Term) -> str:
        reads = {need.partition(".")[2] for need in term.needs} - OUTPUTS
        if term.num_views > 1:
            return "two views"
        if "index" in reads:
            return "contrastive"
        return ("relation" if term.global_batch else "feature") if reads else "logit"

    return " + ".join(dict.fromkeys(of(term) for term in _distilling(strategy))) or NOTHING


def _needs(strategy: Strategy) -> str:
    """What the distilling terms read; a name without an owner is read of both models."""
    terms = _distilling(strategy)
    of = {
        owner: [n.partition(".")[2] for term in terms for n in term.needs if n.startswith(owner)]
        for owner in ("student", "teacher", "batch")
    }
    both = [name for name in dict.fromkeys(of["student"]) if name in of["teacher"]]
    single = [f"{owner}'s {n}" for owner in ("student", "teacher") for n in dict.fromkeys(of[owner]) if n not in both]
    views = ["two views"] if any(term.num_views > 1 for term in terms) else []
    whole = ["whole batch"] if any(term.global_batch for term in terms) else []
    named = [name.replace("_", " ") for name in [*both, *single, *dict.fromkeys(of["batch"])]]
    return ", ".join([*named, *views, *whole]) or NOTHING


def _terms(nodes: Mapping[str, Any]) -> str:
    return " + ".join(_term(key, node) for key, node in nodes.items() if key != "phases")


def _term(name: str, node: Mapping[str, Any]) -> str:
    """`0.9 kd (temperature 4)`."""
    weight = node.get("weight", 1)
    schedule = {}
    if isinstance(weight, Mapping):
        keys = [key.name for key in fields(Schedule) if key.name != "value"]
        schedule = {f"weight {key}": weight[key] for key in keys if key in weight}
        weight = weight["value"]
    times = schedule | {k: v for k, v in node.items() if k == "ramp"}
    told = [f"{key} {_time(value)}" for key, value in times.items()]
    told += [f"{k} {_number(v)}" for k, v in node.items() if k not in ("_target_", "weight", "ramp") and v is not None]
    rest = ", ".join(told)
    return f"{_number(weight)} {name}" + (f" ({rest})" if rest else "")


def _time(value: float) -> str:
    """Epochs, or a share of them."""
    return f"{100 * value:.3g} %" if 0 < value < 1 else f"{value:g}"


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _figure(top1: float | None) -> str:
    return NOTHING if top1 is None else f"{top1:.2f}"


def _phases(strategy: Strategy) -> str:
    def of(phase: Mapping[str, Any]) -> str:
        epochs = phase["epochs"]
        long = "the rest" if epochs is None else f"{100 * epochs:g} %" if epochs < 1 else f"{epochs} epochs"
        told = ["before the others"] * phase["extra"]
        told += [f"{phase['schedule']} rate"] * bool(phase["schedule"]) + _rates(phase["lr"])
        beside = f" ({', '.join(told)})" if told else ""
        return f"{long}{beside}: {', '.join(phase['terms'])} → {phase['train']}"

    return "; ".join(of(phase) for phase in strategy.phases or ()) or NOTHING


def _rates(lr: float | Mapping[str, float] | None) -> list[str]:
    """`sgd 0.01`, of a phase that has a rate of its own."""
    if isinstance(lr, Mapping):
        return [f"{optimizer} {value:g}" for optimizer, value in lr.items()]
    return [] if lr is None else [f"{lr:g}"]


def _extra_parameters(strategy: Strategy) -> str:
    total = sum(p.numel() for p in strategy.parameters() if p.requires_grad)
    ships = any(type(term).deploy is not Term.deploy for term in strategy.terms.values())
    return (count(total) if total else NOTHING) + (", shipped" if ships else "")


# ---------------------------------------------------------------------- tables


def stored_cost(docs: Path) -> dict[str, Any]:
    """What `measure` gave when it last ran; no seconds where it never did."""
    file = docs / "step_cost.json"
    return json.loads(file.read_text()) if file.is_file() else {"seconds": {}}


def _about_cost(cost: Mapping[str, Any]) -> str:
    if not cost["seconds"]:
        return ""
    return (
        f"*Step* is the time of one training step against that of `none`, the teacher's forward pass included; where a "
        f"method has phases, their mean over the epochs. One run on one machine: CPU time of {cost['threads']} thread, "
        f"torch {cost['torch']}, {BATCH} random images of {'×'.join(map(str, SHAPE))}; `none` took "
        f"{cost['seconds']['none']:.2f} s. Differences up to about 0.2 are noise."
    )


def _different(published: Published) -> str:
    """What is built otherwise than in the code behind the figures, method by method."""
    items = [
        f"- {', '.join(f'`{name}`' for name in names.split(', '))}: {said}."
        for names, said in published.different.items()
    ]
    opening = (
        "What surrounds a loss is as in its authors' code: connectors, the maps that are read, phases and their rates, recipes "
        "(`experiment=…`). Otherwise on purpose:"
    )
    return "\n\n".join(["## Not as in the authors' code", opening, "\n".join(items)]) if items else ""


def _comparison(docs: Path) -> str:
    """comparison.csv as it is; its first lines, where they begin with #, are what is said about it."""
    file = docs / "comparison.csv"
    if not file.is_file():
        return ""
    lines = file.read_text().splitlines()
    said = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    columns = tuple(rows[0]) if rows else ()
    return "\n\n".join(part for part in ("## On real images", said, _table(columns, rows, columns[1:])) if part)


def _table(columns: Iterable[str], rows: list[Mapping[str, str]], right: Iterable[str]) -> str:
    columns, right = list(columns), set(right)
    body = [[row[column].replace("|", "\\|") for column in columns] for row in rows]
    left = [place for place, column in enumerate(columns) if column not in right]
    return table([column.replace("_", " ") for column in columns], body, left)
