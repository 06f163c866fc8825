"""What a run of language models shows beside its metrics: in sentences, in rows of a table, and its samples."""

from distillab.core.result import Result
from distillab.core.text_parts import Generation, Text
from distillab.reporting.metric_table import NOTHING, count, decimals, milliseconds, percent
from distillab.reporting.tables import Table, bullets, markdown

NAMES = {"teacher": "teacher", "baseline": "student alone", "student": "student"}
# Rows of a table: the heading, and what writes a role's value.
GENERATION = (
    ("tokens per second, written one text at a time", lambda one: count(one.tokens_per_second)),
    ("first token, ms", lambda one: milliseconds(one.first_token_ms)),
    ("peak memory of writing, bytes", lambda one: count(one.peak_memory_bytes)),
    ("repeated timings differ by %", lambda one: percent(one.spread, 0)),
)


def sentences(result: Result) -> list[str]:
    """Kinds of documents, canaries, drafts and speed, a sentence each; what was not measured is left out."""
    text = result.text
    return [*text.sentences, *_drafts(text), *_speed(text)] if text else []


def _drafts(text: Text) -> list[str]:
    if "student" not in text.acceptance:
        return []
    alone = text.acceptance.get("baseline")
    beside = f" ({percent(alone.rate, 1)} % of the student alone's)" if alone else ""
    rate = percent(text.acceptance["student"].rate, 1)
    return [f"In speculative decoding the teacher would keep {rate} % of the tokens that the student drafts{beside}."]


def _speed(text: Text) -> list[str]:
    student, teacher = text.generation.get("student"), text.generation.get("teacher")
    if student is None:
        return []
    if not all(one.steady for one in text.generation.values()):
        return ["How fast it writes is not certain: the machine was busy."]
    beside = f" (the teacher {_pace(teacher)})" if teacher else ""
    return [f"Writing one text it gives {_pace(student)}{beside}."]


def _pace(one: Generation) -> str:
    return f"{one.tokens_per_second:,.0f} tokens a second, the first after {milliseconds(one.first_token_ms)} ms"


def reloaded(result: Result) -> str:
    """How near the written folder is to the student, in a sentence; empty where that was not looked at."""
    apart = result.text.reloaded if result.text else None
    if apart is None:
        return ""
    near = "equal to" if apart == 0 else f"within {apart:.1e} of"
    return (
        f"Read back by transformers its logits on two example blocks are {near} those of the student that was measured."
    )


def generation_rows(result: Result) -> list[list[str]]:
    """How fast each role of the model card's table writes."""
    found = result.text.generation if result.text else {}
    roles = [role for role in result.entries if not (result.alone and role == "baseline")]
    if not found:
        return []
    return [
        [heading, *(form(found[role]) if role in found else NOTHING for role in roles)] for heading, form in GENERATION
    ]


def kinds(result: Result) -> str:
    """Bits per byte by kind of document as a Markdown table, one column per role; empty without kinds."""
    found = result.text.kinds if result.text else []
    roles = [role for role in NAMES if found and role in found[0].scores]
    lines = [[kind.name, f"{kind.bytes:,}", *(decimals(kind.scores[role]) for role in roles)] for kind in found]
    headings = ["documents", "bytes of text", *(NAMES[role] for role in roles)]
    return markdown(Table(headings, lines)) if lines else ""


def samples(result: Result) -> str:
    """The prompts and their continuations as a Markdown list; empty without any."""
    told = []
    for sample in result.text.samples if result.text else []:
        lines = [f"{NAMES.get(role, role)}: … {_line(text)}" for role, text in sample.continuations.items()]
        told.append("\n".join([f"**{_line(sample.prompt)}** …", "", bullets(lines)]))
    return "\n\n".join(told)


def _line(text: str) -> str:
    return " ".join(text.split())
