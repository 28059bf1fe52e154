"""What is wrong with a corpus, seen in its pixels before anything is trained on it.

One file a check, which registers itself; :data:`FILES` names them.
"""

from raddino.inspection import duplicates, exposure, geometry, intensity, text_check
from raddino.inspection.base import CHECKS, Check, Finding

FILES = (geometry, duplicates, text_check, exposure, intensity)
"""Modules that registered their checks when they were imported."""

__all__ = ["CHECKS", "FILES", "Check", "Finding"]
