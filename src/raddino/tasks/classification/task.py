"""Binary classification: findings, devices, sex, view; each label is a task of its own."""

from scipy.special import expit

from raddino.metrics import calibration, ranking
from raddino.metrics.ranking import Floats
from raddino.tasks.base import TASKS, Examples, Statistic

SPECIFICITIES = (90, 95)


class Classification:
    """AUPRC, AUROC, sensitivity at fixed specificity, Brier score and ECE, the last two also after temperature scaling.

    Thresholds and temperature come from the validation images (evaluation.md, "Classification and metadata").
    """

    loss = "logistic"

    def score(self, output: Floats) -> Floats:
        """Logits to probabilities."""
        return expit(output)

    def statistics(self, examples: Examples, val: Floats, test: Floats) -> dict[str, Statistic]:
        """Statistics of logits ``val`` (N_val,) and ``test`` (N_test,)."""
        y_val, y = (examples.target[examples.at[split]] for split in ("val", "test"))
        temperature = calibration.fit_temperature(y_val, val)
        plain, scaled = expit(test), calibration.apply_temperature(test, temperature)
        known = {"temperature": temperature}
        result = {
            "auprc": Statistic(lambda w: ranking.auprc(y, test, w)),
            "auroc": Statistic(lambda w: ranking.auroc(y, test, w)),
            "brier": Statistic(lambda w: calibration.brier(y, plain, w)),
            "brier_temperature": Statistic(lambda w: calibration.brier(y, scaled, w), known),
            "ece": Statistic(lambda w: calibration.expected_calibration_error(y, plain, w)),
            "ece_temperature": Statistic(lambda w: calibration.expected_calibration_error(y, scaled, w), known),
        }
        for level in SPECIFICITIES:
            threshold = ranking.threshold_at_specificity(y_val, val, level / 100)
            result[f"sensitivity_at_specificity_{level}"] = Statistic(
                lambda w, threshold=threshold: ranking.sensitivity(y, test, threshold, w),
                {
                    "threshold": float(expit(threshold)),
                    "specificity_reached": float(ranking.specificity(y, test, threshold)),
                },
            )
        return result


TASKS.register("binary")(Classification())
