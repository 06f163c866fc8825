"""The primary figure on each test sample of a run's networks, as far as it was kept beside the result."""

import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from distillab.core.result import ROLES, Result
from distillab.evaluation import kept

CLOSE = 1e-3  # share by which the mean of answers in float32 may differ from the figure
# By config hash and role: (N,), larger is better, of which the mean is the primary figure with the sign of a gain.
Answers = Mapping[str, Mapping[str, np.ndarray]]


def read_answers(results: Sequence[Result], runs: Path) -> tuple[Answers, list[str]]:
    """Those of these runs below `runs`, and a line for each damaged file."""
    found, left_out, hashes = {}, [], Counter(result.config_hash for result in results)
    for result in results:
        path = Path(runs, result.name, result.config_hash, kept.NAME)
        try:
            path = _place(path)
            if hashes[result.config_hash] > 1 and path.exists():
                raise ValueError(f"{path}: several results have this hash, so nobody knows whose answers these are")
            if path.exists() and not path.is_file():  # a pipe would block
                raise ValueError(f"{path}: not a file")
            known = {role: kept.by_sample(path, result.primary.name, role) for role in ROLES}
        except (ValueError, OSError) as error:
            left_out.append(f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error))
            continue
        fits = result.data.test  # of images; documents are fewer than what the data count
        if result.task != "causal_lm" and any(
            one is not None and fits not in (None, len(one)) for one in known.values()
        ):
            left_out.append(f"{path}: not as many answers as there are test samples")
            continue
        if any(one is not None and not _belongs(one, result, role) for role, one in known.items()):
            left_out.append(f"{path}: these answers do not give the figures of the result beside them")
            continue
        found[result.config_hash] = {role: one for role, one in known.items() if one is not None}
    return found, left_out


def _place(own: Path) -> Path:
    """Where the answers lie: in the run's own folder, or in the only one of its hash, if somebody renamed what it lies in."""
    hashed = own.parent
    others = [] if own.exists() else sorted(hashed.parents[1].glob(f"*/{glob.escape(hashed.name)}/{own.name}"))
    return others[0] if len(others) == 1 else own


def _belongs(answers: np.ndarray, result: Result, role: str) -> bool:
    """Whether the mean of the answers is what the result has of that role."""
    score = result.score(role)
    sign = 1 if result.primary.higher_is_better else -1
    return score is None or abs(sign * answers.mean() - score) < CLOSE * max(1.0, abs(score))
