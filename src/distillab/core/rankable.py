"""Which of the results in a folder may stand in one ranking: each run once, no trials, data sets told apart."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from distillab.core.result import Result
from distillab.core.result_reader import one_line


def rankable(found: Mapping[Path, Result]) -> tuple[list[Result], list[str]]:
    """Of the results at these paths those that may be ranked, and a line for those that may not.

    These are runs that were made twice, under two names, which would count as two; a tuning's trials, of which the best
    would win by their number; and runs of `debug=`, which are too short to be compared with others, and are ranked where
    there are no others.
    """
    results, told = _each_once(found)
    kept = [result for result in results if "sweep=tune" not in result.overrides]
    trials = len(results) - len(kept)
    if trials:
        which = "1 trial of a tuning is" if trials == 1 else f"{trials} trials of a tuning are"
        told.append(f"{which} not ranked here: sweeps/*/tune.md compares them")
    real = [result for result in kept if not _is_debugging(result)]
    if short := len(kept) - len(real):
        which = "1 run of debug=… is" if short == 1 else f"{short} runs of debug=… are"
        told.append(
            f"{which} too short to be ranked with others"
            if real
            else f"{which} all that there is: too short to compare"
        )
    return real or kept, told


def _each_once(found: Mapping[Path, Result]) -> tuple[list[Result], list[str]]:
    """The newest result of each config and student's weights, and a line for every other one, by the folders they lie in.

    Of equally new ones, as copies of a folder are, the one counts that lies where it was written.
    """

    def key(one: Result) -> tuple[str, str]:
        return one.config_hash, json.dumps(one.weights or id(one))  # earlier versions did not note the weights

    def age(path: Path) -> tuple[float, bool]:
        one = found[path]
        return datetime.fromisoformat(one.created).timestamp(), _folder(path) == f"{one.name}/{one.config_hash}"

    newest = {key(found[path]): path for path in sorted(found, key=age)}
    told = [
        one_line(f"{_folder(path)} is the same run as {_folder(other)}, and is not counted twice")
        for path, one in found.items()
        if (other := newest[key(one)]) != path
    ]
    return [one for path, one in found.items() if newest[key(one)] == path], told


def _folder(path: Path) -> str:
    return "/".join(path.parts[-3:-1])


def _is_debugging(result: Result) -> bool:
    words = (word.lstrip("+").partition("=") for word in result.overrides)
    return any(key == "debug" and value not in ("", "null") for key, _, value in words)


def told_apart(results: Sequence[Result]) -> list[Result]:
    """The results, in which different data sets of one name have different names, by their folders or fingerprints.

    Whatever ranks and groups by the name of the data then never puts two data sets together.
    """
    places: dict[str, dict[str | None, Any]] = defaultdict(dict)
    for result in results:
        root = (result.config.get("data") or {}).get("root")
        places[result.data.name].setdefault(result.data.fingerprint, root)

    def renamed(result: Result) -> Result:
        data = result.data
        roots, known = places[data.name], (data.fingerprint or "unknown")[:8]
        if len(roots) == 1:
            return result
        root = roots[data.fingerprint]
        where = root if root and list(roots.values()).count(root) == 1 else ", ".join(filter(None, (root, known)))
        return result.model_copy(update={"data": data.model_copy(update={"name": f"{data.name} ({where})"})})

    return [renamed(result) for result in results]
