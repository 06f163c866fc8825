"""The facts of a trained or measured network."""

from collections.abc import Mapping
from typing import Any, Self

from distillab.core.result_parts import Figures, Part, Trained, Training


class Record(Part):
    """A network's primary figure by split, and the origin of its weights."""

    scores: Figures = {}  # of `validation`, if there is such a split, and of `test`
    training: Training = Training()  # its fit, or the source of its weights
    folder: str | None = None  # the network's in the store; None outside of it

    def changed(self, folder: str | None = None, scores: Mapping[str, float] | None = None, **training: Any) -> Self:
        """The same with another folder, scores or facts of the training."""
        return Record(
            scores=self.scores if scores is None else scores,
            training=self.training.model_copy(update=training),
            folder=self.folder if folder is None else folder,
        )

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
