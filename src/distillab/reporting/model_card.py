"""The model card of a run's student: what it is, how good, and how it was made, for whoever gets only the weights."""

import re
from collections.abc import Iterable
from pathlib import Path

from distillab.core.instantiate import PACKAGES
from distillab.core.result import Result
from distillab.models.about import About
from distillab.reporting.metric_table import NOTHING, ON_TEST, heading, metric, percent
from distillab.reporting.metric_table import samples as plural
from distillab.reporting.run_end import measured_on, savings, scarce_labels
from distillab.reporting.tables import Table, bullets, markdown, without_tags
from distillab.reporting.text_words import generation_rows, kinds, samples, sentences
from distillab.reporting.words import calibration_words, errors_words, features_words, primary, verdict

COST = ("parameters", "multiply_adds", "size_bytes", "latency_ms", "latency_spread", "throughput", "peak_memory_bytes")
MOST_NAMES = 20  # of classes; a thousand of them nobody reads
PROTOCOLS = {
    "standard": "The checkpoint was chosen on validation images split off the training set; test was looked at once.",
    "paper": "It trained on all training images and was tested after every epoch, as many papers do: the numbers may "
    "flatter it and must not be compared with those of the standard protocol.",
}


# What the Hub calls the figures and the task: of images, and of text.
HUB = (
    (("top1", "accuracy", "top-1 accuracy"), ("macro_f1", "f1", "macro F1")),
    (("bits_per_byte", "bits_per_byte", "bits per byte"), ("perplexity", "perplexity", "perplexity of a token")),
)
HUB_TASKS = ("image-classification", "Image Classification"), ("text-generation", "Text Generation")


def model_card(result: Result, weights: Path | None = None) -> str:
    """Markdown with the YAML front matter that the Hugging Face Hub reads; what an older result lacks is left out.

    The file of its `weights` says what it expects of its images. Source: Mitchell et al., Model Cards for Model Reporting, arXiv:1810.03993.
    """
    taught = "trained alone" if result.alone else f"distilled by {result.method}"
    title = f"# {result.student.name}, {taught} on {result.data.name}"
    text = result.task == "causal_lm"
    parts = [title, _what(result, weights), "## Figures" if text else "## Accuracy", _accuracy(result)]
    parts += [*filter(None, [kinds(result)]), *sentences(result)]
    parts += ["## Samples", drawn] if (drawn := samples(result)) else []
    if result.limits and result.limits.sentences:
        parts += ["## Limits", bullets(result.limits.sentences)]
    costs = [
        _compared(result, COST, generation_rows(result)),
        " ".join(filter(None, (savings(result), measured_on(result)))),
    ]
    parts = [without_tags(part) for part in (*parts, "## Size and speed", *costs) if part]
    parts += ["## How to load it", _loading(result), "## How it was made", _making(result)]
    return "\n\n".join([_front_matter(result), *parts]) + "\n"


def _loading(result: Result) -> str:
    target = str((result.config.get("student") or {}).get("_target_"))
    page = Path(__file__).with_name("loading.md").read_text(encoding="utf-8").rstrip().format(code=_code(result))
    if result.task != "causal_lm":
        return page
    if target.startswith(("distillab.models.causal_lm.", "transformers.")):
        return Path(__file__).with_name("loading_text.md").read_text(encoding="utf-8").rstrip()
    return f"`student.safetensors` holds the weights; the network is `{target}`."


def _code(result: Result) -> str:
    """What loads the student; a class of its author's is named here, since none is called that only a file names."""
    target = str((result.config.get("student") or {}).get("_target_") or PACKAGES[0])
    load = "from distillab.export.safetensors import load_student\n\nmodel = load_student"
    if target.partition(".")[0] in PACKAGES:
        return f'{load}("student.safetensors")'
    return f'from pkgutil import resolve_name\n\n{load}("student.safetensors", resolve_name({target!r}))'


def _front_matter(result: Result) -> str:
    import yaml

    data, student = result.data.name, result.student
    metrics = [
        {"type": kind, "value": student.metrics[key], "name": f"{words}, protocol {result.protocol}"}
        for key, kind, words in HUB[result.task == "causal_lm"]
        if key in student.metrics
    ]
    task = dict(zip(("type", "name"), HUB_TASKS[result.task == "causal_lm"], strict=True))
    measured = {"task": task, "dataset": {"name": data, "type": data, "split": "test"}, "metrics": metrics}
    front = {
        "library_name": "distillab",
        "pipeline_tag": task["type"],
        "tags": ["distillab", "knowledge-distillation", task["type"]],
        "datasets": [data],
        "metrics": [metric["type"] for metric in metrics],
        "model-index": [{"name": student.name, "results": [measured]}],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---"


def _expected(weights: Path | None) -> list[str]:
    """What a student expects of its images, for whoever loads it without distillab."""
    if weights is None or not weights.is_file():
        return []
    from safetensors import safe_open

    with safe_open(weights, framework="np") as file:
        about = About.read(file.metadata() or {})
    if None in (about.mean, about.std, about.input_shape):
        return []
    side = about.input_size or about.input_shape[1]
    pixels = f"{side}×{side} pixels, {'grey' if about.input_shape[0] == 1 else 'RGB'}, from 0 to 1"
    lines = [f"**Input:** images of {pixels}, less mean {about.mean}, divided by std {about.std}."]
    if about.classes and len(about.classes) <= MOST_NAMES:
        lines.append(f"**Output:** one logit for each class, in the order {', '.join(map(str, about.classes))}.")
    return lines


def _what(result: Result, weights: Path | None) -> str:
    data, teacher = result.data, result.teacher
    shown = primary(result)
    taught = teacher and f"{teacher.name}, {shown.words(result.score('teacher'))} {shown.label}"
    splits = {"training": data.train, "validation": data.validation, "test": data.test}
    sizes = ", ".join(f"{size} {split}" for split, size in splits.items() if size)
    protocol, source = PROTOCOLS.get(result.protocol, ""), result.student.training.source
    told = f"{source[:1].upper()}{source[1:]}; test was looked at once." if source and result.features else ""
    lines = [
        f"**Model:** {result.student.name}, {_kind(result)}.",
        f"**Teacher:** {taught or 'none'}.",
        f"**Method:** {result.method}.",
        f"**Data:** {data.name}{f' ({sizes} {plural(result.task)})' if sizes else ''}.",
        f"**Protocol:** {result.protocol}. {told or protocol.replace('images', plural(result.task))}".rstrip(),
        *_expected(weights),
    ]
    return bullets(lines)


def _kind(result: Result) -> str:
    if result.task == "causal_lm":
        return "a causal language model"
    data, names = result.data, result.data.class_names
    classes = "unknown" if data.classes is None else data.classes
    named = f" ({', '.join(names)})" if 0 < len(names) <= MOST_NAMES else ""
    return f"an image classifier of {classes} classes{named}"


def _accuracy(result: Result) -> str:
    shown, name = primary(result), result.primary.name
    keys = dict.fromkeys((name, f"{name}_best", f"{name}_last", *ON_TEST))
    against, gain = result.student.against_teacher, []
    if not result.alone and result.gain is not None:
        others = [NOTHING] * (len(result.entries) - 1)
        gain = [[f"gain over the student alone, {shown.gained}", *others, shown.difference(result.gain)]]
    parts = [_compared(result, keys, gain), verdict(result), features_words(result), scarce_labels(result)]
    if against:
        answers = "tokens" if result.task == "causal_lm" else "images"
        parts.append(f"It answers as the teacher does on {percent(against.agreement, 1)} % of the test {answers}.")
    return "\n\n".join(filter(None, [*parts, errors_words(result), calibration_words(result)]))


def _compared(result: Result, keys: Iterable[str], further: Iterable[list[str]] = ()) -> str:
    """A table with one column per role, one row per figure that any of them has, and further rows."""
    headings = {"teacher": "teacher", "baseline": "student alone", "student": "this model"}
    entries = {role: entry for role, entry in result.entries.items() if not (result.alone and role == "baseline")}
    lines = []
    for key in keys:
        values = [entry.figure(key) for entry in entries.values()]
        if any(value is not None for value in values):
            lines.append([heading(key, result.task), *map(metric(key).form, values)])
    names = (f"{headings[role]}: {entry.name}" for role, entry in entries.items())
    return markdown(Table(["", *names], [*lines, *further]))


def _making(result: Result) -> str:
    seeds = ", ".join(f"{name} {value}" for name, value in result.seeds.items() if value is not None)
    versions = ", ".join(f"{name} {value}" for name, value in result.versions.items() if value)
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", result.repeating_command))])
    lines = [f"Config {result.config_hash}, finished {result.created[:10]}."]
    lines += [f"Seeds: {seeds}."] if seeds else []
    lines += [f"Versions: {versions}."] if versions else []
    lines = [without_tags(line) for line in (*lines, "`result.json` holds the whole config and every figure.")]
    return "\n\n".join([f"{fence}\n{result.repeating_command}\n{fence}", *lines])
