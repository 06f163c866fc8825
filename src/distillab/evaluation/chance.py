"""When an accuracy is hardly better than a guess."""


def hardly_better(accuracy: float, chance: float) -> bool:
    """Whether a network has hardly learned: below half as much again as a guess, or of two classes below 62.5 %."""
    return accuracy < min(1.5 * chance, chance + (1 - chance) / 4)
