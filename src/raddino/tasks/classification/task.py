"""Binary classification: findings, devices, sex, view; each label is a task of its own."""

from functools import partial

import numpy as np
from scipy.special import expit

from raddino.metrics import ranking
from raddino.metrics.calibration import (
    apply_temperature,
    brier,
    expected_calibration_error,
    fit_temperature,
)
from raddino.metrics.ranking import Floats
from raddino.tasks.base import TASKS, Examples, Statistic
from raddino.tasks.probes.base import Loss

SPECIFICITIES = (90, 95)


class Classification:
    """AUPRC, AUROC, sensitivity at fixed specificity, Brier score and ECE with and without temperature.

    Thresholds and temperature come from the validation images (evaluation.md, "Classification and metadata").
    """

    loss: Loss = "logistic"

    def score(self, output: Floats) -> Floats:
        """Logits to probabilities."""
        return expit(output)

    def statistics(self, examples: Examples, val: Floats, test: Floats) -> dict[str, Statistic]:
        """Statistics of logits ``val`` (N_val,) and ``test`` (N_test,)."""
        y_val, y = (examples.target[examples.at[split]] for split in ("val", "test"))
        temperature = fit_temperature(y_val, val)
        plain, scaled = expit(test), apply_temperature(test, temperature)
        known = {"temperature": temperature}
        result = {
            "auprc": Statistic.of(ranking.auprc, y, test, ranks=True),
            "auroc": Statistic.of(ranking.auroc, y, test, ranks=True),
            "brier": Statistic.of(brier, y, plain),
            "brier_temperature": Statistic.of(brier, y, scaled, known),
            "ece": Statistic.of(expected_calibration_error, y, plain),
            "ece_temperature": Statistic.of(expected_calibration_error, y, scaled, known),
        }
        for level in SPECIFICITIES:
            threshold = ranking.threshold_at_specificity(y_val, expit(val), level / 100)
            reached = float(ranking.specificity(y, plain, threshold))
            result[f"sensitivity_at_specificity_{level}"] = Statistic.of(
                partial(ranking.sensitivity, threshold=1),
                y,
                (plain >= threshold).astype(np.float64),
                {"threshold": threshold, "specificity_reached": reached},
            )
        return result


TASKS.register("binary")(Classification())
