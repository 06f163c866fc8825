"""What is split off, what selects the checkpoint, and on what the number is reported."""

from __future__ import annotations

from dataclasses import dataclass

from distillab.core.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """The rules of a comparison.

    Attributes:
        name: carried wherever the number goes.
        validation: share of the training images carved off to select the checkpoint; 0 trains on all of them and
            watches the test images, as much of the literature does.
        select: `best` epoch on the watched images, or the `last` one.

    Raises:
        UserError: an unknown choice, or a name that promises what the numbers do not keep.
    """

    name: str
    validation: float
    select: str = "best"

    def __post_init__(self) -> None:
        if self.select not in ("best", "last"):
            raise UserError(f'select must be best or last, got "{self.select}" (protocol.select=best)')
        if self.name == "standard" and not self.validation:
            raise UserError("standard needs validation images (protocol.validation=0.1), or choose protocol=paper")
        if self.name == "paper" and self.validation:
            raise UserError("paper trains on all images (protocol.validation=0), or choose protocol=standard")

    def check_data(self, validation: float) -> None:
        """Refuse data whose own share of validation images does not keep what the protocol promises.

        Raises:
            UserError: it carves off images under a protocol that trains on all, or none under one that watches them.
        """
        if bool(validation) != bool(self.validation):
            share = self.validation or 0
            raise UserError(
                f"protocol={self.name} takes {share:g} of the training images for validation and the data "
                f"{validation:g}; set data.validation={share:g}"
            )

    @property
    def watches(self) -> str:
        """The split that is looked at after every epoch."""
        return "validation" if self.validation else "test"
