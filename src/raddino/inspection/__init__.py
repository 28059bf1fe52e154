"""What is wrong with a corpus, seen in its pixels before anything is trained on it.

One file a check, which registers itself; :data:`FILES` names them.
"""

from raddino.inspection import duplicates, exposure, geometry
from raddino.inspection.base import CHECKS, Check, Finding

FILES = (geometry, exposure, duplicates)
"""Modules that registered their checks when they were imported."""

__all__ = ["CHECKS", "FILES", "Check", "Finding"]
