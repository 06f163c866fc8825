"""Weights whose tensors have other names than the network's: matched by their order, where that order is known."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import accumulate

from torch import Tensor, nn

# Networks that register their modules in the order in which other repositories do: the CIFAR networks as RepDistiller
# (github.com/HobbitLong/RepDistiller) and mdistiller (github.com/megvii-research/mdistiller) have them, ResNets as most do.
ORDERED = ("distillab.models.zoo.", "torchvision.models.resnet.")
COUNTER = "num_batches_tracked"  # of BatchNorm; files of an old torch lack it
DIGITS = "0123456789"


def has_known_order(net: nn.Module) -> bool:
    """Whether weights with other names may be matched with a network's tensors by their order."""
    return f"{type(net).__module__}.".startswith(ORDERED)


def names_by_order(net: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """For each tensor of a network its name in `weights`, which name them in another way; empty where that is not sure.

    The order decides, without the counters of BatchNorm, and only where nothing speaks against it: under some prefix there
    are as many tensors, each with the last word of its partner (weight, bias, running_mean, running_var); names that the
    network has too stand where the network has them; modules follow each other as a network writes them, none in two
    places and none before another with a smaller number. Shapes are not looked at, but for the choice among prefixes.
    """
    own = {name: value.shape for name, value in net.state_dict().items() if not _counts(name)}
    if not has_known_order(net):
        return {}
    fitting = [
        (prefix, names)
        for prefix, names in _groups([name for name in weights if not _counts(name)], len(own))
        if _agree(list(own), [name.removeprefix(prefix) for name in names])
    ]

    def quality(group: tuple[str, list[str]]) -> tuple[bool, bool]:
        shapes = [weights[name].shape for name in group[1]]
        return shapes == list(own.values()), "student" in group[0]  # as where the names fit

    names = max(fitting, key=quality, default=("", []))[1]
    return dict(zip(own, names, strict=True)) if names else {}


def are_disordered(net: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Whether weights of a network of a known order have all its shapes, so that `names_by_order` fails by the order alone."""
    both = (net.state_dict(), weights)
    shapes = [sorted(tuple(value.shape) for name, value in one.items() if not _counts(name)) for one in both]
    return has_known_order(net) and shapes[0] == shapes[1]


def _counts(name: str) -> bool:
    return name.rpartition(".")[2] == COUNTER


def _paths(name: str) -> list[str]:
    """Of `a.b.c`: `a`, `a.b` and `a.b.c`."""
    return list(accumulate(name.split("."), lambda path, part: f"{path}.{part}"))


def _groups(names: list[str], size: int) -> Iterable[tuple[str, list[str]]]:
    """The tensors under each prefix that has so many, with the longest prefix that they share."""
    counts = Counter(f"{path}." for name in names for path in _paths(name)[:-1])
    counts[""] = len(names)
    prefixes = sorted((prefix for prefix, count in counts.items() if count == size), key=len)
    found = {next(name for name in names if name.startswith(prefix)): prefix for prefix in prefixes}
    return [(prefix, [name for name in names if name.startswith(prefix)]) for prefix in found.values()]


def _agree(own: list[str], other: list[str]) -> bool:
    """Whether two lists of as many names can be those of the same tensors in the same order."""
    last = [[name.rpartition(".")[2] for name in names] for names in (own, other)]
    known = set(own)
    return (
        last[0] == last[1]
        and all(b == a or b not in known for a, b in zip(own, other, strict=True))
        and _is_written(other)
    )


def _is_written(names: Iterable[str]) -> bool:
    """Whether a network can have written names in this order: every module in one place, numbered ones in their order."""
    seen: set[str] = set()
    numbers: dict[str, tuple[int, str]] = {}
    before: list[str] = []
    for name in names:
        paths = _paths(name)
        for path in paths:
            if path in before:
                continue
            stem = path.rstrip(DIGITS)
            digits = path[len(stem) :].lstrip("0")
            number = (len(digits), digits)  # no int, of which a damaged file could ask for millions of digits
            if path in seen or (stem != path and number <= numbers.get(stem, (-1, ""))):
                return False
            seen.add(path)
            if stem != path:
                numbers[stem] = number
        before = paths
    return True
