"""The model card of a run's student: what it is, how good, and how it was made, for whoever gets only the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distillab.core.result import command, method
from distillab.reporting.table import (
    FIGURES,
    NOTHING,
    count,
    measured_on,
    milliseconds,
    percent,
    points,
    savings,
    verdict,
)

Result = Mapping[str, Any]

# Key of a role's entry → its row's heading and its form for a person.
COST = {
    "parameters": ("parameters", count),
    "multiply_adds": ("multiply-adds", count),
    "size_bytes": ("bytes", count),
    "latency_ms": ("latency of one image, ms", milliseconds),
    "throughput": ("images per second", count),
    "peak_memory_bytes": ("peak memory, bytes", count),
}
MOST_NAMES = 20  # of classes; a thousand of them nobody reads
SPLITS = {"train": "training", "validation": "validation", "test": "test"}
PROTOCOLS = {
    "standard": "The checkpoint was chosen on validation images split off the training set; test was looked at once.",
    "paper": "It trained on all training images and was tested after every epoch, as many papers do: the numbers may "
    "flatter it and must not be compared with those of the standard protocol.",
}


def model_card(result: Result) -> str:
    """Markdown with the YAML front matter that the Hugging Face Hub reads, `model-index` included.

    Args:
        result: as `result.json` holds it; what an older result lacks is left out.

    Source: Mitchell et al., Model Cards for Model Reporting, arXiv:1810.03993.
    """
    parts = [_front_matter(result), f"# {_title(result)}", _what(result), "## Accuracy", _accuracy(result)]
    if sentences := (result.get("limits") or {}).get("sentences"):
        parts += ["## Limits", "\n".join(f"- {sentence}" for sentence in sentences)]
    parts += ["## Size and speed", _cost(result), "## How to load it", LOADING, "## How it was made"]
    return "\n\n".join([*parts, _making(result)]) + "\n"


def _title(result: Result) -> str:
    student, data = result["student"]["name"], result["data"]["name"]
    taught = "trained alone" if result["strategy"] == "none" else f"distilled by {method(result)}"
    return f"{student}, {taught} on {data}"


def _front_matter(result: Result) -> str:
    import yaml

    data, student = result["data"]["name"], result["student"]
    metrics = [
        {"type": kind, "value": student[key], "name": f"{words}, protocol {result['protocol']}"}
        for key, kind, words in (("top1", "accuracy", "top-1 accuracy"), ("macro_f1", "f1", "macro F1"))
        if student.get(key) is not None
    ]
    task = {"type": "image-classification", "name": "Image Classification"}
    measured = {"task": task, "dataset": {"name": data, "type": data, "split": "test"}, "metrics": metrics}
    front = {
        "library_name": "distillab",
        "pipeline_tag": task["type"],
        "tags": ["distillab", "knowledge-distillation", task["type"]],
        "datasets": [data],
        "metrics": [metric["type"] for metric in metrics],
        "model-index": [{"name": student["name"], "results": [measured]}],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---"


def _what(result: Result) -> str:
    data, teacher = result["data"], result.get("teacher")
    classes = data.get("classes", "unknown")
    names = [str(name) for name in data.get("class_names") or []]
    named = f" ({', '.join(names)})" if 0 < len(names) <= MOST_NAMES else ""
    lines = [
        f"- **Model:** {result['student']['name']}, an image classifier of {classes} classes{named}.",
        f"- **Teacher:** {teacher['name']}, {percent(teacher['top1'])} % top-1." if teacher else "- **Teacher:** none.",
        f"- **Method:** {method(result)}.",
        f"- **Data:** {data['name']}{_sizes(data)}.",
        f"- **Protocol:** {result['protocol']}. {PROTOCOLS.get(result['protocol'], '')}".rstrip(),
    ]
    return "\n".join(lines)


def _sizes(data: Mapping[str, Any]) -> str:
    told = [f"{data[split]} {words}" for split, words in SPLITS.items() if data.get(split)]
    return f" ({', '.join(told)} images)" if told else ""


def _accuracy(result: Result) -> str:
    parts = [_compared(result, FIGURES)]
    parts.append(verdict(dict(result)))
    if against := result["student"].get("against_teacher"):
        parts.append(_against_teacher(against))
    return "\n\n".join(parts)


def _against_teacher(against: Mapping[str, Any]) -> str:
    told = f"It answers as the teacher does on {percent(against['agreement'], 1)} % of the test images"
    if against.get("repeated_errors") is None or against.get("repeated_by_chance") is None:
        return f"{told}."
    repeated, chance = percent(against["repeated_errors"], 1), percent(against["repeated_by_chance"], 1)
    return f"{told} and repeats {repeated} % of its errors with the same wrong class ({chance} % by chance)."


def _cost(result: Result) -> str:
    said = " ".join(filter(None, (savings(result), measured_on(result))))
    return _compared(result, COST) + (f"\n\n{said}" if said else "")


def _compared(result: Result, rows: Mapping[str, tuple[str, Any]]) -> str:
    """One column per role, one row per figure that any of them has."""
    alone = result["strategy"] == "none"
    headings = {"teacher": "teacher", "baseline": "student alone", "student": "this model"}
    roles = [role for role in headings if result.get(role) and not (alone and role == "baseline")]
    lines = [["", *(f"{headings[role]}: {result[role]['name']}" for role in roles)], ["---", *["---:"] * len(roles)]]
    for key, (heading, form) in rows.items():
        if any(result[role].get(key) is not None for role in roles):
            lines.append([heading, *(form(result[role].get(key)) for role in roles)])
    if rows is FIGURES and not alone and result.get("gain") is not None:
        lines.append(["gain over the student alone, points", *[NOTHING] * (len(roles) - 1), points(result["gain"])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


LOADING = """`student.safetensors` holds the weights. Its metadata, a JSON object under `distillab`, says which architecture
they belong to, the classes in the order of the outputs, and the normalisation and size of the images.

```python
import json

from distillab.models.build import build_model
from safetensors import safe_open

path = "student.safetensors"
with safe_open(path, framework="pt") as file:
    about = json.loads(file.metadata()["distillab"])
config = about["model"] | {"checkpoint": path}
shape, mean, std = about["input_shape"], about["mean"], about["std"]
model = build_model(config, "student", about["classes"], shape, mean=mean, std=std, seed=0).eval()
# logits = model(images), images (N, channels, height, width) from 0 to 1; the model normalises them itself
```

As `teacher.checkpoint=student.safetensors`, with the same architecture as `teacher=`, it teaches the next model. Where
the method ships more than the student itself (`simkd`), `distillab.models.checkpoint.read_shipped` reads the file."""


def _making(result: Result) -> str:
    seeds = ", ".join(f"{name} {value}" for name, value in result["seeds"].items() if value is not None)
    versions = ", ".join(f"{name} {value}" for name, value in (result.get("versions") or {}).items() if value)
    lines = [f"```\n{command(result)}\n```", f"Config {result['config_hash']}, finished {result['created'][:10]}."]
    lines += [f"Seeds: {seeds}."] if seeds else []
    lines += [f"Versions: {versions}."] if versions else []
    return "\n\n".join([*lines, "`result.json` holds the whole config and every figure."])
