"""Planted detectors: makers whose images differ in ways that have nothing to do with the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from raddino.errors import RaddinoError, did_you_mean
from raddino.sample.detector import Exposure
from raddino.sample.findings import FINDINGS


@dataclass(frozen=True)
class Detector:
    """What a detector and its processing leave on every image; see :class:`raddino.sample.detector.Exposure`.

    Attributes:
        manufacturer: no real one's name; ``prepare`` takes it as it takes publishers' codes.
        kind: DICOM's detector type (PS3.3 C.8.11.4).
    """

    manufacturer: str
    kind: str
    blur: float
    sharpen: float
    gamma: float
    lines: float


DETECTORS = (
    Detector("coded 1", "SCINTILLATOR", blur=0.0, sharpen=0.6, gamma=0.8, lines=0.0),
    Detector("coded 2", "STORAGE", blur=0.1, sharpen=0.0, gamma=1.25, lines=0.05),
)


@dataclass(frozen=True)
class Planting:
    """How many detectors took a sample's images, and whether one of them met a finding more often.

    Attributes:
        detectors: 1 leaves images as they are without a detector's fingerprint.
        finding: of :data:`FINDINGS`, or empty for a detector that is independent of all.
        share: of studies with the finding that the last detector took, and of those without that the others took.
    """

    detectors: int = 1
    finding: str = ""
    share: float = 0.5

    @classmethod
    def parse(cls, detectors: int, confound: str | None) -> Planting:
        """From a command's words: ``confound`` is ``"effusion=0.9"`` or None.

        Raises:
            RaddinoError: more detectors than there are, an unknown finding, or a share that is none.
        """
        if not 1 <= detectors <= len(DETECTORS):
            raise RaddinoError(f"detectors must be 1 to {len(DETECTORS)}, got {detectors}")
        if confound is None:
            return cls(detectors)
        finding, _, text = confound.partition("=")
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if detectors == 1 or not 0 <= share <= 1:
            raise RaddinoError(f"confound takes FINDING=SHARE, 0 to 1, beside 2 detectors, got {confound!r}")
        if finding not in FINDINGS:
            raise RaddinoError(
                f"unknown finding {finding!r}.{did_you_mean(finding, FINDINGS)} Known: {', '.join(FINDINGS)}."
            )
        return cls(detectors, finding, share)

    def draw(self, seed: int, patient: int, study: int, labels: Mapping[str, int]) -> Detector | None:
        """The detector of a patient's study, None where there is one alone; a function of these and nothing else."""
        if self.detectors == 1:
            return None
        drawn = np.random.default_rng([seed, 14, patient, study]).random()
        last = (self.share if labels[self.finding] else 1 - self.share) if self.finding else 0.5
        return DETECTORS[int(drawn < last)]


ALONE = Planting()


def taken_with(exposure: Exposure, detector: Detector) -> Exposure:
    """The exposure as the detector shows it."""
    return replace(
        exposure,
        blur=float(np.hypot(exposure.blur, detector.blur)),
        sharpen=exposure.sharpen + detector.sharpen,
        gamma=detector.gamma,
        lines=detector.lines,
    )
