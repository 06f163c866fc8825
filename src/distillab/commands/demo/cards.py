"""The networks as HTML, side by side."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment

from distillab.commands.demo.members import Member, Shown
from distillab.reporting.metric_table import count, milliseconds

FOLDER = Path(__file__).parent


def cards(shown: Sequence[Shown], *, truth: str = "", text: str | None = None, refusal: str = "") -> str:
    """What the members tell; `truth` is the class of an example, `text` what was typed, `refusal` why nothing is told."""
    page = Environment(autoescape=True).from_string((FOLDER / "cards.html.j2").read_text(encoding="utf-8"))
    teacher = next((one.member.size for one in shown if one.member.role == "teacher"), None)
    return page.render(
        shown=[_Card(one, teacher) for one in shown],
        truth=truth,
        text=text,
        refusal=refusal,
        waiting="waits for an image" if text is None else "waits for a text",
        took="one image" if text is None else "time",
        zip=zip,
        count=count,
        ms=lambda time: "–" if time is None else f"{milliseconds(time)} ms",
    )


def waiting(members: Sequence[Member], *, text: bool, refusal: str = "") -> str:
    """The members before anything is asked, or where it cannot be read."""
    return cards([Shown(member) for member in members], text="" if text else None, refusal=refusal)


class _Card:
    """What a member tells, and its size as a share of the teacher's."""

    def __init__(self, shown: Shown, teacher: int | None) -> None:
        self.member, self.answer, self.told = shown.member, shown.answer, shown.told
        self.milliseconds, self.busy = shown.milliseconds, shown.busy
        own = shown.member.size
        self.share = f"{100 * own / teacher:.0f} %" if own and teacher and shown.member.role != "teacher" else ""
