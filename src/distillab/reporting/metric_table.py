"""The one table of metrics: how each figure of a result is called and written, whichever page shows it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import floor, log10

from distillab.core import rounding
from distillab.core.rounding import rounded

NOTHING = "–"
OVER = "the same student, seed and schedule trained without a teacher"
OVER_RANDOM = "the same student with random weights and a head fitted likewise"  # where a head was fitted afterwards


def percent(share: float | None, digits: int = 2) -> str:
    """A share of one as a percentage, without the sign."""
    return NOTHING if share is None else f"{rounded(100 * share, digits):.{digits}f}".replace("-", "−")


def probability(share: float | None) -> str:
    """A probability in whole percent, which is never said to be sure."""
    if share is None:
        return NOTHING
    return "over 99" if share > 0.99 else "under 1" if share < 0.01 else percent(share, 0)


def signed(number: float | None, digits: int = 3) -> str:
    """A number with its sign."""
    return NOTHING if number is None else rounding.signed(number, digits)


def points(difference: float | None) -> str:
    """A difference of two shares in percentage points, signed; every gain and every end of its interval is written so."""
    return NOTHING if difference is None else signed(100 * difference, 2)


def counted(number: int, what: str) -> str:
    """So many of something: `1 run`, `1,200 steps`."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def count(number: float | None) -> str:
    """A large count with three significant digits and its unit: 78.0 k, 11.2 M, 1.82 G."""
    if number is None:
        return NOTHING
    number = rounded(number, 2 - floor(log10(number)) if number >= 1000 else 0)  # 999,500 are 1.00 M
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            scaled = number / size
            return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f} {unit}"
    return f"{number:.0f}"


def milliseconds(time: float | None) -> str:
    """Milliseconds with enough digits to compare."""
    if time is None:
        return NOTHING
    digits = 2 if rounded(time, 2) < 10 else 1
    return f"{rounded(time, digits):.{digits}f}"


def decimals(value: float | None) -> str:
    """A loss with three decimals."""
    return NOTHING if value is None else f"{rounded(value, 3):.3f}".replace("-", "−")


@dataclass(frozen=True)
class Metric:
    """One figure: its name for people, what writes a value in its unit, and its direction, None where it has none.

    The shares of one are shown in percent, and their differences in points; any other figure as it is.
    """

    label: str
    form: Callable[[float | None], str] = decimals
    unit: str = ""
    higher_is_better: bool | None = None

    @property
    def heading(self) -> str:
        """Of a column: the label with its unit."""
        return f"{self.label} %" if self.unit == "%" else self.axis

    @property
    def axis(self) -> str:
        """The title of an axis."""
        return ", ".join(filter(None, (self.label, self.unit)))

    @property
    def scale(self) -> int:
        """What a value is multiplied by on that axis."""
        return 100 if self.form is percent else 1

    def words(self, value: float | None, digits: int = 2) -> str:
        """A value with its unit, for a sentence."""
        return f"{percent(value, digits) if self.form is percent else self.form(value)} {self.unit}".rstrip()

    def difference(self, gain: float | None) -> str:
        """A signed difference of two values, without its unit."""
        return points(gain) if self.form is percent else signed(gain)

    @property
    def gained(self) -> str:
        """The unit of a gain, for a sentence: a gain is positive where the value got better, whatever its direction."""
        direction = " (less is better)" if self.higher_is_better is False else ""
        return "points" if self.form is percent else f"in {self.label}{direction}"

    def gain(self, gain: float | None) -> str:
        """A gain with its unit, for a sentence."""
        return f"{self.difference(gain)} {self.gained}"


METRICS = {
    # Image classification.
    "top1": Metric("top-1", percent, "%", True),
    "top1_best": Metric("best epoch on test", percent, "%", True),
    "top1_last": Metric("last epoch", percent, "%", True),
    "top5": Metric("top-5", percent, "%", True),
    "balanced_accuracy": Metric("balanced accuracy", percent, "%", True),
    "macro_f1": Metric("macro F1", percent, "%", True),
    "nll": Metric("negative log-likelihood", decimals, "", False),
    "brier": Metric("Brier score", decimals, "", False),
    "calibration_error": Metric("calibration error", percent, "points", False),
    # Language models.
    "bits_per_byte": Metric("bits per byte", decimals, "", False),
    "bits_per_byte_best": Metric("best epoch on test", decimals, "", False),
    "bits_per_byte_last": Metric("last epoch", decimals, "", False),
    "perplexity": Metric(
        "perplexity of a token", lambda value: NOTHING if value is None else f"{value:.4g}", "", False
    ),
    # Agreement with the teacher.
    "agreement": Metric("agrees with teacher", percent, "%"),
    "kl": Metric("KL from teacher"),
    "repeated_errors": Metric("teacher's errors repeated", percent, "%", False),
    # What features are worth on test, where no label taught the student.
    "neighbours": Metric("nearest neighbours", percent, "%", True),
    "probe": Metric("linear probe", percent, "%", True),
    # Deployment.
    "parameters": Metric("parameters", count, "", False),
    "multiply_adds": Metric("multiply-adds", count, "", False),
    "latency_ms": Metric("latency", milliseconds, "ms", False),
    "latency_p95_ms": Metric("its 95th percentile", milliseconds, "", False),
    "latency_batch_ms": Metric("latency of a batch", milliseconds, "ms", False),
    "latency_batch_p95_ms": Metric("its 95th percentile", milliseconds, "", False),
    "latency_spread": Metric("repeated timings differ by", lambda share: percent(share, 0), "%", False),
    "throughput": Metric("images per second", count, "", True),
    "peak_memory_bytes": Metric("peak memory", count, "bytes", False),
    "size_bytes": Metric("size", count, "bytes", False),
}
# What a sample is called, by task, in the singular and in the plural.
SAMPLES = {"causal_lm": ("block", "blocks")}
# What tests and intervals are over, where that is not a sample.
TESTED = {"causal_lm": "documents"}
ON_TEST = ("top1", "top5", "balanced_accuracy", "macro_f1", "perplexity", "nll", "brier", "calibration_error")
FEATURES = ("neighbours", "probe")
AGAINST_TEACHER = ("agreement", "kl", "repeated_errors")
DEPLOYED = ("parameters", "multiply_adds", "latency_ms", "latency_p95_ms", "latency_batch_ms", "latency_batch_p95_ms")
DEPLOYED += ("latency_spread", "throughput", "peak_memory_bytes", "size_bytes")
RANKED = ("parameters", "multiply_adds", "latency_ms", "size_bytes")  # the costs in which a front is looked for
PLOTTED = ("parameters", "multiply_adds", "latency_ms")  # the costs that accuracy is drawn against


def metric(key: str, higher_is_better: bool | None = None) -> Metric:
    """The metric of that key; one that the table does not know is a plain number by its own name, with this direction."""
    return METRICS.get(key) or Metric(key, higher_is_better=higher_is_better)


def one_sample(task: str) -> str:
    """What one sample of a task is called."""
    return SAMPLES.get(task, ("image", "images"))[0]


def samples(task: str) -> str:
    """What several are called."""
    return SAMPLES.get(task, ("image", "images"))[1]


def many_tested(number: int, task: str) -> str:
    """So many test samples: `1 test image`, `400 test images`."""
    return f"{number:,} test {one_sample(task) if number == 1 else samples(task)}"


def tested(task: str) -> str:
    """What tests and intervals are over, in the plural."""
    return TESTED.get(task) or samples(task)


def heading(key: str, task: str) -> str:
    """Of a column or row of one task."""
    found = metric(key).heading
    return (
        found.replace("images", samples(task)).replace("top-1", "likeliest token is right")
        if task in SAMPLES
        else found
    )


def gain_note(shown: Iterable[Metric], over: str = OVER) -> str:
    """What the gains of a page are, by the primary figures of its rankings."""
    units = {f"points of {one.label}" if one.form is percent else one.label: one.form is percent for one in shown}
    return f"Gain: {' or '.join(units)} over {over}{'' if all(units.values()) else '; positive is better'}."
