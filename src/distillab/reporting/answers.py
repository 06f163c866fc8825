"""The primary figure on each test sample of a run's networks, as far as it was kept beside the result."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from distillab.core.result import ROLES, Result
from distillab.evaluation import kept

# By config hash and role: (N,), larger is better, of which the mean is the primary figure with the sign of a gain.
Answers = Mapping[str, Mapping[str, np.ndarray]]


def read_answers(results: Sequence[Result], runs: Path) -> tuple[Answers, list[str]]:
    """Those of these runs below `runs`, and a line for each damaged file."""
    found, left_out = {}, []
    for result in results:
        path = Path(runs, result.name, result.config_hash, kept.NAME)
        try:
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
        found[result.config_hash] = {role: one for role, one in known.items() if one is not None}
    return found, left_out
