"""What a person reads at the end of a run: a table and one honest sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt
from typing import TYPE_CHECKING, Any

from distillab.core.result import method
from distillab.evaluation import ratios
from distillab.evaluation.cost_words import machine, words

if TYPE_CHECKING:
    from rich.table import Table

NOTHING = "–"


def percent(share: float | None, digits: int = 2) -> str:
    """A share of one as a percentage, without the sign."""
    return NOTHING if share is None else f"{100 * share:.{digits}f}".replace("-", "−")


def points(difference: float | None, digits: int = 2) -> str:
    """A difference of two shares in percentage points, signed."""
    return NOTHING if difference is None else f"{100 * difference:+.{digits}f}".replace("-", "−")


def count(number: float | None) -> str:
    """A large count with three significant digits and its unit: 78.0 k, 11.2 M, 1.82 G."""
    if number is None:
        return NOTHING
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            scaled = number / size
            return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f} {unit}"
    return f"{number:.0f}"


def milliseconds(time: float | None) -> str:
    """Milliseconds with enough digits to compare."""
    return NOTHING if time is None else f"{time:.{2 if time < 10 else 1}f}"


def decimals(value: float | None) -> str:
    """A loss with three decimals."""
    return NOTHING if value is None else f"{value:.3f}"


# What a role's answers are judged by: key of its entry → heading and form for a person.
FIGURES: Mapping[str, tuple[str, Callable[[float | None], str]]] = {
    "top1": ("top-1 %", percent),
    "top5": ("top-5 %", percent),
    "balanced_accuracy": ("balanced accuracy %", percent),
    "macro_f1": ("macro F1 %", percent),
    "nll": ("negative log-likelihood", decimals),
    "brier": ("Brier score", decimals),
    "calibration_error": ("calibration error, points", percent),
}


def models_line(student: Any, teacher: Any) -> str:
    """Teacher against student before training: parameters and multiply-adds, in one line."""
    from distillab.evaluation.efficiency import multiply_adds, parameters

    def size(model: Any) -> tuple[int, int]:
        return parameters(model), multiply_adds(model)

    def text(role: str, model: Any) -> str:
        numbers = size(model)
        return f"{role} {model.info.name}: {count(numbers[0])} parameters, {count(numbers[1])} multiply-adds"

    if teacher is None:
        return text("student", student)
    shares = [100 * own / other for own, other in zip(size(student), size(teacher), strict=True)]
    return f"{text('teacher', teacher)}; {text('student', student)} ({shares[0]:.0f} % and {shares[1]:.0f} % of it)"


def final_table(result: dict[str, Any]) -> Table:
    """Teacher, student alone and student distilled, one row each, as far as the run had them."""
    from rich.table import Table

    data, teacher = result["data"], result.get("teacher")
    where = f"{data['name']}, protocol {result['protocol']}"
    table = Table(title=f"{where}: accuracy on {data.get('test', 'the')} test samples")
    table.caption = " ".join(
        filter(None, ("In brackets: share of the teacher's." * bool(teacher), measured_on(result)))
    )
    table.add_column("model")
    headings = ("top-1 %", "gain", "gap closed", "parameters", "multiply-adds", "latency, one image", "size")
    for heading in headings:
        table.add_column(heading, justify="right")
    for role, label in _rows(result):
        model = result[role]
        distilled = role == "student" and result.get("gain") is not None
        table.add_row(
            f"{label}: {model['name']}",
            percent(model["top1"]),
            points(result["gain"]) if distilled else NOTHING,
            _with_unit(percent(result.get("gap_closed"), 0), "%") if distilled else NOTHING,
            _compared(count, "parameters", role, model, teacher),
            _compared(count, "multiply_adds", role, model, teacher),
            _compared(lambda time: _with_unit(milliseconds(time), "ms"), "latency_ms", role, model, teacher),
            _compared(lambda size: _with_unit(count(size), "B", ""), "size_bytes", role, model, teacher),
            style="bold" if role == "student" else None,
        )
    return table


def measured_on(result: Mapping[str, Any]) -> str:
    """Where the latencies were measured, in a sentence; empty where it is not known."""
    where = machine(result["student"])
    return f"Measured on {where}." if where else ""


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    student = "student alone" if result["strategy"] == "none" else f"student, {method(result)}"
    labels = {"teacher": "teacher", "baseline": "student alone", "student": student}
    return [(role, label) for role, label in labels.items() if result.get(role)]


def _with_unit(text: str, unit: str, space: str = " ") -> str:
    return text if text == NOTHING else f"{text}{space}{unit}"


def _compared(form: Any, key: str, role: str, model: dict[str, Any], teacher: dict[str, Any] | None) -> str:
    text = form(model.get(key))
    if role == "teacher" or not teacher or not teacher.get(key) or model.get(key) is None:
        return text
    share = 100 * model[key] / teacher[key]
    return f"{text} ({share:.{0 if share >= 9.95 else 1}f} %)"


def verdict(result: dict[str, Any]) -> str:
    """What the run shows, in plain words: gain, share of the gap closed, and how far one seed can be trusted.

    Where every epoch was tested, also the best epoch's and the last one's accuracy, which papers report.
    """
    student = result["student"]
    if student.get("top1_best") is None or student.get("top1_last") is None:
        return _outcome_in_words(result)
    best, last = percent(student["top1_best"]), percent(student["top1_last"])
    return f"{_outcome_in_words(result)} Best epoch on test {best} %, last epoch {last} %."


def _outcome_in_words(result: dict[str, Any]) -> str:
    student, baseline, teacher, gain = (result.get(key) for key in ("student", "baseline", "teacher", "gain"))
    samples = result["data"].get("test")
    error = standard_error(student["top1"], samples)
    known = f" ± {100 * error:.1f} (binomial standard error, {samples} test samples)" if error else ""
    reached = f"{percent(student['top1'], 1)} %{known}"
    if result["strategy"] == "none":
        return f"{student['name']} alone, without a teacher, reaches {reached}."
    if gain is None or not baseline:
        beside = f", the teacher {percent(teacher['top1'], 1)} %" if teacher else ""
        return (
            f"{student['name']} reaches {reached}{beside}; what distillation itself brought is unknown without "
            "the same student trained alone (baseline=true)."
        )
    pair = f"the same student alone ({student['name']}, seed {result['seeds'].get('seed')})"
    trust = sentence((result.get("paired") or {}).get("words")) or _trust(
        gain, *(m["top1"] for m in (student, baseline)), samples
    )
    return f"{_outcome(gain, pair)}{_gap(result)}. {trust}"


def further(result: dict[str, Any]) -> list[str]:
    """What else a run shows, a sentence each: the limits of the teacher, what is saved, what it cost, when it pays."""
    told = [*(result.get("limits") or {}).get("sentences", [])]
    against, alone = (((result.get(role) or {}).get("against_teacher") or {}) for role in ("student", "baseline"))
    if against.get("repeated_errors") is not None and alone:
        told.append(
            f"Of the teacher's {against['teacher_errors']} errors the student repeats {percent(against['repeated_errors'], 0)} % "
            f"({percent(against['repeated_by_chance'], 0)} % by chance; alone {percent(alone['repeated_errors'], 0)} %)."
        )
    if saved := savings(result):
        told.append(saved)
    return [*told, *(words(result["cost"]) if result.get("cost") else [])]


def savings(result: Mapping[str, Any]) -> str:
    """What the student takes less than its teacher, in a sentence; empty where there is none."""
    found = ratios.in_words(ratios.ratios(result["teacher"], result["student"])) if result.get("teacher") else ""
    return found and f"Against its teacher, {result['student']['name']} is or has: {found}."


def sentence(words: str | None) -> str | None:
    """Words as a sentence: a capital, and one full stop; None where there are none."""
    return words and f"{words[0].upper()}{words[1:].rstrip('.')}."


def standard_error(top1: float, samples: int | None) -> float | None:
    """Binomial standard error of an accuracy over that many test samples, from 0 to 1; None if they are unknown."""
    return sqrt(top1 * (1 - top1) / samples) if samples else None


def _outcome(gain: float, pair: str) -> str:
    size = f"{abs(100 * gain):.1f}"
    if size == "0.0":
        return f"Distillation made no difference to {pair}"
    if gain < 0:
        return f"Distillation lost {size} points against {pair}"
    return f"Distillation brought +{size} points over {pair}"


def _gap(result: dict[str, Any]) -> str:
    teacher, baseline, share = result.get("teacher"), result["baseline"], result.get("gap_closed")
    if not teacher:
        return ""
    if share is None:
        scores = f"{percent(teacher['top1'], 1)} % against {percent(baseline['top1'], 1)} %"
        return f"; the teacher is not above the student alone ({scores}), so there was no gap to close"
    if share >= 1:
        return f" and closed the whole gap to the teacher ({100 * share:.0f} %)"
    return f" and closed {100 * share:.0f} % of the gap to the teacher" if round(share, 2) > 0 else ""


def _trust(gain: float, student_top1: float, baseline_top1: float, samples: int | None) -> str:
    error, other = standard_error(student_top1, samples), standard_error(baseline_top1, samples)
    if error is None or other is None:
        return "One seed: another may say otherwise."
    known = f"One seed, and {samples} test samples give each accuracy a standard error of {100 * error:.1f} points"
    # As if the two were tested on different samples: wider than the truth, so that nothing is called sure too early.
    if abs(gain) < 2 * sqrt(error**2 + other**2):
        return f"{known}: a difference this small can be chance."
    return f"{known}: more than the test samples explain, but another seed may differ."
