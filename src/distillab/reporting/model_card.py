"""The model card of a run's student: what it is, how good, and how it was made, for whoever gets only the weights."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from distillab.core.instantiate import PACKAGES
from distillab.core.result import REFERENCES, Result
from distillab.models.about import About
from distillab.reporting import doubts
from distillab.reporting.exported import files_table, int8_words
from distillab.reporting.metric_table import NOTHING, ON_TEST, heading, metric, percent
from distillab.reporting.metric_table import samples as plural
from distillab.reporting.network_words import features_words, made_here, origin
from distillab.reporting.run_end import measured_on, savings, scarce_labels
from distillab.reporting.tables import Table, bullets, markdown, without_tags
from distillab.reporting.text_words import generation_rows, kinds, reloaded, samples, sentences
from distillab.reporting.words import calibration_words, cost_words, errors_words, named, primary, verdict

# A path from a root, a home folder or a drive, at the start of a word, of a value or of one in a list; no address of the net.
ABSOLUTE = re.compile(r"(?:^|(?<=[=,\[{:'\"]))(?:~[^/\\,\]}'\"]*|[A-Za-z]:)?[/\\](?![/\\])[^,\]}'\"]*")
COST = ("parameters", "multiply_adds", "size_bytes", "latency_ms", "latency_spread", "throughput", "peak_memory_bytes")
MOST_NAMES = 20  # of classes; a thousand of them nobody reads
PROTOCOLS = {
    "standard": "The checkpoint was chosen on validation images, which trained nothing; test was looked at once.",
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
    parts += ["## Limits", bullets([*(result.limits.sentences if result.limits else ()), *_scope(result)])]
    costs = [
        _compared(result, COST, generation_rows(result)),
        " ".join(filter(None, (savings(result), measured_on(result)))),
    ]
    parts = [without_tags(part) for part in (*parts, "## Size and speed", *costs) if part]
    parts += ["## Cost", " ".join(spent)] if (spent := cost_words(result)) else []
    if result.exports:
        told = "Each was run on the whole test split, and compared with the student that was measured."
        tail = " ".join(filter(None, (told, int8_words(result))))
        parts += ["## Files", markdown(files_table(result.exports, result.primary)), without_tags(tail)]
    parts += ["## How to load it", *filter(None, [_loading(result), _loading_onnx(result, weights)])]
    parts += ["## How it was made", _making(result)]
    return "\n\n".join([_front_matter(result), *parts]) + "\n"


def _loading(result: Result) -> str:
    target = str((result.config.get("student") or {}).get("_target_"))
    page = Path(__file__).with_name("loading.md").read_text(encoding="utf-8").rstrip().format(code=_code(result))
    if result.task != "causal_lm":
        return page
    if target.startswith(("distillab.models.causal_lm.", "transformers.")):
        page = Path(__file__).with_name("loading_text.md").read_text(encoding="utf-8").rstrip()
        return f"{page}\n\n{read}" if (read := reloaded(result)) else page
    return f"`student.safetensors` holds the weights; the network is `{target}`."


def _loading_onnx(result: Result, weights: Path | None) -> str:
    """How to run the ONNX file, the float one where there is one."""
    names = {one.format: one.file for one in result.exports}
    file, about = names.get("onnx", names.get("int8")), _about(weights)
    if file is None or about is None or about.input_shape is None:
        return ""
    page = Path(__file__).with_name("loading_onnx.md").read_text(encoding="utf-8").rstrip()
    return page.format(file=file, channels=about.input_shape[0], side=about.input_shape[1])


def _scope(result: Result) -> list[str]:
    """What the figures do not say, whatever they are."""
    said = f"All figures are of the test split of {result.data.name}; what it does on other data was not measured."
    learned = "" if result.teacher is None else " It may repeat the errors and the bias of its teacher."
    return [said + learned]


def _code(result: Result) -> str:
    """What loads the student; a class of its author's is named here, since none is called that only a file names."""
    target = str((result.config.get("student") or {}).get("_target_") or PACKAGES[0])
    load = "from distillab.export.safetensors import load_student\n\nmodel = load_student"
    if target.partition(".")[0] in PACKAGES:
        return f'{load}("student.safetensors")'
    module = f"# {target.rpartition('.')[0]} is the code of the network: it must be importable."
    return f'from pkgutil import resolve_name\n\n{module}\n{load}("student.safetensors", resolve_name({target!r}))'


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
        "license": _license(result) or "unknown",
        "library_name": "distillab",
        "pipeline_tag": task["type"],
        "tags": ["distillab", "knowledge-distillation", task["type"]],
        "datasets": [data],
        "metrics": [metric["type"] for metric in metrics],
        "model-index": [{"name": student.name, "results": [measured]}],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---"


def _license(result: Result) -> str | None:
    given = result.config.get("license")
    return without_tags(str(given)) if given is not None else None


def _about(weights: Path | None) -> About | None:
    """What the file of the weights says of its network; None without a file."""
    if weights is None or not weights.is_file():
        return None
    from safetensors import safe_open

    with safe_open(weights, framework="np") as file:
        return About.read(file.metadata() or {})


def _expected(weights: Path | None) -> list[str]:
    """What a student expects of its images, for whoever loads it without distillab."""
    about = _about(weights)
    if about is None or None in (about.mean, about.std, about.input_shape):
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
    taught = teacher and f"{teacher.name}{origin(result)}, {shown.words(result.score('teacher'))} {shown.label}"
    splits = {"training": data.train, "validation": data.validation, "test": data.test}
    sizes = ", ".join(f"{size:,} {split}" for split, size in splits.items() if size)
    protocol, source = PROTOCOLS.get(result.protocol, ""), result.student.training.source
    told = f"{source[:1].upper()}{source[1:]}; test was looked at once." if source and result.features else ""
    bound = "that of the data" if teacher is None else "those of the data and of the teacher"
    lines = [
        f"**Model:** {result.student.name}, {_kind(result)}.",
        f"**Teacher:** {taught or 'none'}.{made_here(result)}",
        f"**Method:** {result.method}.",
        f"**Data:** {data.name}{f' ({sizes} {plural(result.task)})' if sizes else ''}.",
        f"**Protocol:** {result.protocol}. {told or protocol.replace('images', plural(result.task))}".rstrip(),
        *_expected(weights),
        f"**Licence:** {_license(result) or f'not stated; {bound} may bind this model'}.",
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
    estimate, reached = result.student.intervals.get(name), ""
    if estimate is not None:
        ends = f"{shown.words(estimate.low)} to {shown.words(estimate.high)}"
        reached = f"This model reaches {shown.words(estimate.value)} {shown.label}, 95 % interval {ends} over samples like these."
    keys = dict.fromkeys((name, f"{name}_best", f"{name}_last", *ON_TEST))
    against, gain = result.student.against_teacher, []
    if not result.alone and result.gain is not None:
        others = [NOTHING] * (len(result.entries) - 1)
        gain = [[f"gain over {named(result.reference)}, {shown.gained}", *others, shown.difference(result.gain)]]
    parts = [
        _compared(result, keys, gain),
        reached,
        verdict(result),
        doubts.of_run(result),
        features_words(result),
        scarce_labels(result),
    ]
    if against:
        answers = "tokens" if result.task == "causal_lm" else "images"
        parts.append(f"It answers as the teacher does on {percent(against.agreement, 1)} % of the test {answers}.")
    return "\n\n".join(filter(None, [*parts, errors_words(result), calibration_words(result)]))


def _compared(result: Result, keys: Iterable[str], further: Iterable[list[str]] = ()) -> str:
    """A table with one column per role, one row per figure that any of them has, and further rows."""
    headings = {"teacher": "teacher", **REFERENCES, "student": "this model"}
    # Random weights cost what the student does.
    left_out = {"baseline"} if result.alone else {"random"} if keys is COST else set()
    entries = {role: entry for role, entry in result.entries.items() if role not in left_out}
    lines = []
    for key in keys:
        values = [entry.figure(key) for entry in entries.values()]
        if any(value is not None for value in values):
            lines.append([heading(key, result.task), *map(metric(key).form, values)])
    names = (f"{headings[role]}: {entry.name}" for role, entry in entries.items())
    return markdown(Table(["", *names], [*lines, *further]))


def without_folders(command: str) -> str:
    """A command in which every absolute path is cut to its last part: a card says nothing of its author's disk."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return shlex.join(ABSOLUTE.sub(lambda found: f"…/{_last(found[0])}", word) for word in words)


def _last(path: str) -> str:
    """The last part of a path of any platform."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _making(result: Result) -> str:
    seeds = ", ".join(f"{name} {value}" for name, value in result.seeds.items() if value is not None)
    versions = ", ".join(f"{name} {value}" for name, value in result.versions.items() if value)
    command = without_folders(result.repeating_command)
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", command))])
    lines = [f"Config {result.config_hash}, finished {result.created[:10]}."]
    lines += [f"Seeds: {seeds}."] if seeds else []
    lines += [f"Versions: {versions}."] if versions else []
    lines = [
        without_tags(line)
        for line in (*lines, "`result.json` of the run's folder holds the whole config and every figure.")
    ]
    return "\n\n".join([f"{fence}\n{command}\n{fence}", *lines])
