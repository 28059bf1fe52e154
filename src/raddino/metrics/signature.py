"""What stands beside every number: how it came about, in fields and in one line."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Signature:
    """Two numbers are comparable when all but value-bearing fields of their signatures agree.

    Attributes:
        metric: name with its variant, for example ``"sensitivity_at_specificity_95"``.
        split: the split that was measured.
        n: images; positives: images with target 1 (None for numbers); prevalence: their share.
        patients: patients behind the images.
        interval: method of the interval, :func:`raddino.metrics.scales.method`.
        resamples: bootstrap resamples.
        seed: of the bootstrap.
        encoder_fingerprint: weights and preprocessing; data_fingerprint: the packed corpus.
        labelling: how a public data set's labels were read, for example ``"readers=majority"``.
        members: of an average: what it averages; empty for other numbers.
        listed: how many it was to average; more than ``members`` where some could not be measured.
        scope: which images of the corpus were trained and tested on, where not all were, for example
            ``"train:nih,test:kermany"``.
    """

    metric: str
    split: str
    n: int
    positives: int | None
    prevalence: float | None
    patients: int
    resamples: int
    seed: int
    encoder_fingerprint: str
    data_fingerprint: str
    interval: str
    labelling: str = ""
    members: tuple[str, ...] = ()
    listed: int = 0
    scope: str = ""

    def __str__(self) -> str:
        labelling = f"|labels:{self.labelling}" if self.labelling else ""
        scope = f"|scope:{self.scope}" if self.scope else ""
        share = f"{len(self.members)} of {self.listed}"
        members = f"|mean of:{', '.join(self.members)} ({share})" if self.members else ""
        positives = "" if self.positives is None else f"|pos:{self.positives}|prev:{self.prevalence:.3f}"
        return (
            f"{self.metric}{members}|split:{self.split}|n:{self.n}{positives}|patients:{self.patients}|ci:{self.interval}"
            f"|B:{self.resamples}|seed:{self.seed}|enc:{self.encoder_fingerprint[:8]}"
            f"|data:{self.data_fingerprint[:8]}{labelling}{scope}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields and the line under ``signature``, JSON-ready; ``members`` and ``listed`` of averages alone."""
        fields = asdict(self)
        members, listed = list(fields.pop("members")), fields.pop("listed")
        return {**fields, **({"members": members, "listed": listed} if members else {}), "signature": str(self)}
