"""What features say of the patient beyond findings: age, weight, BMI as numbers; linear probes only."""

import numpy as np

from raddino.metrics import regression
from raddino.metrics.ranking import Floats
from raddino.tasks.base import TASKS, Examples, Statistic


class Metadata:
    """MAE, R2, and AUROC averaged over the quartiles of the training targets (evaluation.md, "Metadata")."""

    loss = "squared"

    def score(self, output: Floats) -> Floats:
        """The predicted number itself."""
        return output

    def statistics(self, examples: Examples, val: Floats, test: Floats) -> dict[str, Statistic]:
        """Statistics of predictions ``test`` (N_test,) in the target's unit."""
        y = examples.target[examples.at["test"]]
        edges = np.unique(np.quantile(examples.target[examples.at["train"]], [0.25, 0.5, 0.75]))
        return {
            "mae": Statistic(lambda w: regression.mae(y, test, w)),
            "r2": Statistic(lambda w: regression.r2(y, test, w)),
            "auroc_binned": Statistic(
                lambda w: regression.auroc_binned(y, test, edges, w), {"edges": edges.tolist()}
            ),
        }


TASKS.register("regression")(Metadata())
