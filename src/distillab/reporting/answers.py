"""The primary figure on each test sample of a run's networks, as far as it was kept beside the result."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from distillab.core.result import ROLES, Result
from distillab.evaluation import kept

CLOSE = 1e-3  # share by which the mean of answers in float32 may differ from the figure
# By config hash and role: (N,), larger is better, of which the mean is the primary figure with the sign of a gain.
Answers = Mapping[str, Mapping[str, np.ndarray]]


def read_answers(
    results: Sequence[Result], runs: Path, places: Mapping[Path, Result] | None = None
) -> tuple[list[Result], Answers, list[str]]:
    """These results, the answers of those that have them below `runs`, and a line for each damaged file.

    Answers lie beside their result, whose place is one of `places`, or follows from its name and hash.
    A result with another figure than its answers give is left out too, as nobody knows which of the two is right.
    """
    believed, found, left_out = [], {}, []
    hashes = Counter(result.config_hash for result in results)
    beside = {id(result): path.parent for path, result in (places or {}).items()}
    for result in results:
        believed.append(result)
        path = beside.get(id(result), Path(runs, result.name, result.config_hash)) / kept.NAME
        try:
            if hashes[result.config_hash] > 1 and path.exists():
                raise ValueError(f"{path}: several results have this hash, so nobody knows whose answers these are")
            if path.exists() and not path.is_file():  # a pipe would block
                raise ValueError(f"{path}: not a file")
            known = {role: kept.by_sample(path, result.primary.name, role) for role in ROLES}
            fits = result.data.test  # of images; documents are fewer than what the data count
            if result.task != "causal_lm" and any(
                one is not None and fits not in (None, len(one)) for one in known.values()
            ):
                raise ValueError(f"{path}: not as many answers as there are test samples")
            contradicted = _contradicted(path, result, known)
        except (ValueError, OSError) as error:
            left_out.append(f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error))
            continue
        if contradicted:
            believed.pop()
            left_out.append(f"{path.with_name('result.json')} is left out: {contradicted}")
            continue
        found[result.config_hash] = {role: one for role, one in known.items() if one is not None}
    return believed, found, left_out


def _contradicted(path: Path, result: Result, known: Mapping[str, np.ndarray | None]) -> str:
    """The first figure of the result that the answers at `path` do not give, in a sentence; empty where they give all.

    `known` are those of the primary figure, by role.
    """
    sign = {result.primary.name: 1 if result.primary.higher_is_better else -1, "nll": -1, "top1": 1}
    for role, entry in result.entries.items():
        for name in sign.keys() & entry.metrics.keys():
            primary = name == result.primary.name
            value, answers = entry.metrics[name], known[role] if primary else kept.by_sample(path, name, role)
            if answers is not None and not abs(sign[name] * answers.mean() - value) < CLOSE * max(1.0, abs(value)):
                return f"`{role}.metrics.{name}` is {value!r}, and the answers beside it give {sign[name] * answers.mean():.6g}"
    return ""
