"""The facts of a trained or measured network."""

from collections.abc import Mapping
from typing import Any, Self

from distillab.core.result_parts import Figures, Part, Trained, Training


class FittedHead(Part):
    """A linear head that was fitted to the frozen features of a network."""

    data: str  # fingerprint of the data whose labelled training samples it was fitted to
    samples: int  # how many these are
    decay: float
    file: str | None = None  # in the store, with the weights of the whole network


class Record(Part):
    """A network's primary figure by split, and the origin of its weights."""

    scores: Figures = {}  # of `validation`, if there is such a split, and of `test`
    training: Training = Training()  # its fit, or the source of its weights
    folder: str | None = None  # the network's in the store; None outside of it
    head: FittedHead | None = None  # the network's own, where it was fitted after all else

    def changed(self, folder: str | None = None, scores: Mapping[str, float] | None = None, **training: Any) -> Self:
        """The same with another folder, scores or facts of the training."""
        own = {"scores": self.scores if scores is None else scores, "folder": folder or self.folder}
        return self.model_copy(update=own | {"training": self.training.model_copy(update=training)})

    def with_head(self, head: FittedHead) -> Self:
        """The same of a network whose head was fitted afterwards."""
        return self.model_copy(update={"head": head})

    def trained(self, name: str, parent: str | None, primary: str) -> Trained:
        """The network as a link of the run's lineage; without a parent it learned from the labels alone."""
        by_split = {split: {primary: value} for split, value in self.scores.items()}
        return Trained(
            name=name,
            parent=parent,
            metrics=by_split.get("test", {}),
            validation=by_split.get("validation", {}),
            seconds=self.training.seconds,
            reused=self.training.reused,
        )
