"""The sixteen ways in which a radiograph is stored wrongly: turned, mirrored, inverted; and how each is undone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VIEWS = ("PA", "AP", "LATERAL", "OTHER")
"""What a picture may show; the last is no chest radiograph."""


@dataclass(frozen=True)
class Move:
    """What was done to an upright picture: mirrored first, then turned; grey values inverted or not.

    Attributes:
        quarters: turns by 90 degrees clockwise, 0 to 3.
        mirrored: left and right exchanged before turning.
        inverted: bright and dark exchanged.
    """

    quarters: int = 0
    mirrored: bool = False
    inverted: bool = False

    def place(self, image: np.ndarray) -> np.ndarray:
        """(H, W) pixels moved so, grey values as they are; also for masks."""
        return np.rot90(image[:, ::-1] if self.mirrored else image, -self.quarters)

    def unplace(self, image: np.ndarray) -> np.ndarray:
        """:meth:`place` undone."""
        upright = np.rot90(image, self.quarters)
        return upright[:, ::-1] if self.mirrored else upright

    def apply(self, image: np.ndarray) -> np.ndarray:
        """(H, W) uint8 or uint16 moved and inverted so."""
        placed = self.place(image)
        return np.iinfo(image.dtype).max - placed if self.inverted else placed

    def undo(self, image: np.ndarray) -> np.ndarray:
        """:meth:`apply` undone."""
        upright = self.unplace(image)
        return np.iinfo(image.dtype).max - upright if self.inverted else upright

    @property
    def words(self) -> str:
        """For a reader, for example ``"turned 90 degrees clockwise and inverted"``; empty for an upright picture."""
        said = ["mirrored"] if self.mirrored else []
        said += [f"turned {90 * self.quarters} degrees clockwise"] if self.quarters else []
        said += ["inverted"] if self.inverted else []
        return " and ".join([", ".join(said[:-1]), said[-1]]) if len(said) > 1 else "".join(said)


MOVES = tuple(
    Move(quarters, mirrored, inverted)
    for inverted in (False, True)
    for quarters in range(4)
    for mirrored in (False, True)
)
"""All sixteen; the first leaves the picture as it is."""
