"""What a person reads at the end of an adaptation: one table, and what was learned, forgotten and proved."""

from pathlib import Path

from distillab.core.adaptation import Adaptation, Adapted, OnText
from distillab.core.output import rank_zero_print
from distillab.reporting.metric_table import NOTHING, count, counted, decimals, signed
from distillab.reporting.tables import Table, print_table, terminal


def show(found: Adaptation, directory: Path) -> None:
    """The table, and where things are."""
    old = found.old is not None
    headings = ["model", found.data, "change"] + ([f"{found.old}, the old text", "forgotten"] if old else [])
    rows = [[one.name, *_cells(one.new), *(_cells(one.old) if one.old else []), *_cost(one)] for one in found.ways]
    base = found.ways[0]
    texts = counted(base.new.documents, "document") + (f" and {base.old.documents} of {found.old}" if base.old else "")
    title = f"{base.name.removesuffix(' as it was')} adapted to {found.data}: bits per byte of {texts} held out; less is better"
    caption = "In brackets: 95 % interval of the change, by document. One seed says nothing of the ways themselves."
    print_table(terminal(Table([*headings, "trained", "seconds"], rows, title), caption))
    rank_zero_print("\n".join((*_proofs(found), f"{directory}/adapt.json")), result=True)


def _cells(text: OnText) -> list[str]:
    if text.change is None:
        return [decimals(text.bits_per_byte), NOTHING]
    # One document has no interval.
    ends = (text.change, text.low, text.high) if text.low is not None else (text.change,)
    change, *interval = (signed(value) for value in ends)
    return [decimals(text.bits_per_byte), f"{change} ({' to '.join(interval)})" if interval else change]


def _cost(one: Adapted) -> list[str]:
    return [count(one.trained), f"{one.seconds:,.1f}"] if one.trained else [NOTHING, NOTHING]


def _proofs(found: Adaptation) -> list[str]:
    told = []
    for one in found.ways[1:]:
        if one.adapter is None:
            told.append(f"{one.name}: {one.folder}")
            continue
        apart = ["equal logits" if each == 0 else f"logits equal to {each:.0e}" for each in (one.reloaded, one.merged)]
        told.append(f"{one.name}: adapter {one.adapter} ({apart[0]} read back), merged {one.folder} ({apart[1]})")
    return told
