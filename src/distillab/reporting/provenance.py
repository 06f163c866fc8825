"""The report's last section: where each number comes from, and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distillab.reporting.groups import Group
from distillab.reporting.metric_table import NOTHING
from distillab.reporting.parts import Section, section, table, view


def provenance(groups: list[Group]) -> Section:
    """For each run where it came from and how to make it again; below, in what the configs differ and what they share."""
    results = [result for group in groups for result in group.row.results]
    packages = list(dict.fromkeys(name for result in results for name in result.versions))
    headings = ["run", "method", "student", "seeds", "made", "command to make it again", *packages]
    rows = [
        [
            f"{result.name}/{result.config_hash}",
            result.method,
            result.student.name,
            ", ".join(f"{name} {value}" for name, value in result.seeds.items() if value is not None),
            result.created[:16].replace("T", " "),
            result.repeating_command,
            *(str(result.versions.get(name) or NOTHING) for name in packages),
        ]
        for result in results
    ]
    tables = [table(headings, rows)]
    configs = [_flat(result.config) for result in results]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differing = [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]
    if differing:
        shown = [
            [row[0], *(str(config.get(key, NOTHING)) for key in differing)]
            for row, config in zip(rows, configs, strict=True)
        ]
        tables.append(table(["run", *differing], shown))
    common = {key: configs[0].get(key, NOTHING) for key in keys if key not in differing}
    if common:
        tables.append(table(("setting of all runs", "value"), [[key, str(value)] for key, value in common.items()]))
    about = "Below the runs, those values of their configs that are not the same in all of them; then those that are."
    return section("provenance", "Where the numbers come from", about, (), [view(tables=tables)])


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
