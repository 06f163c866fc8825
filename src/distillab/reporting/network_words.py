"""Sentences of a run's networks: where its teacher is from, and what the features of all are worth."""

import re
from pathlib import Path

from distillab.core.result import Result
from distillab.reporting.metric_table import counted, percent

# How the source of a teacher's weights tells what was done to them.
HEAD, ADAPTED = re.compile(r"with a head fitted (here|elsewhere) on ([\d,]+) samples"), ", adapted here; before: "
TRIED = "fine-tuning did not help"


def origin(result: Result) -> str:
    """Where the teacher's weights are from, by the name of their file alone."""
    given = (result.config.get("teacher") or {}).get("checkpoint")
    if given:
        return f" (weights of {Path(str(given)).name})"
    source = result.teacher.training.source or ""
    return " (trained here)" if source.startswith("trained here") else ""


def made_here(result: Result) -> str:
    """What of the teacher was trained in this project, how long that took, and how good it was before, in a sentence."""
    if result.teacher is None:
        return ""
    training = result.teacher.training
    source, took = training.source or "", f"in {training.total_seconds:,.1f} s"
    if TRIED in source:
        return f" All of it was trained here (teacher.adapt=all), {took}, and was better on validation before, as which it teaches."
    if (head := HEAD.search(source)) and (result.config.get("teacher") or {}).get("adapt") == "none":
        return f" Its features taught as they came; a head was fitted {head[1]} on {head[2]} samples, {took}, to judge them."
    if head:
        return f" Its head was fitted {head[1]} on {head[2]} samples, {took}; the rest of it is as it came."
    if ADAPTED in source:
        return f" The whole of it was trained here (teacher.adapt=all), {took}; it had {source.partition(ADAPTED)[2]} before."
    return (
        f" It was trained here as a whole, {took}."
        if source.startswith("trained here") and training.total_seconds
        else ""
    )


def features_words(result: Result) -> str:
    """What the features of the networks are worth where no label taught the student; empty where some did."""
    if not result.features:
        return ""
    names = {
        "teacher": "the teacher's",
        "student": "the student's",
        "random": "those of the student with random weights",
    }
    told = ", ".join(
        f"{names[role]} {percent(one.neighbours, 1)} and {percent(one.probe, 1)} %"
        for role, one in result.features.items()
        if role in names
    )
    many = max(one.samples for one in result.features.values())
    return f"Features, by 20 nearest neighbours and by a linear probe of {counted(many, 'labelled sample')}: {told}."
