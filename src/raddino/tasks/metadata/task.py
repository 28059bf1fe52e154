"""What features say of the patient beyond findings: age, weight, BMI as numbers; linear probes only."""

from functools import partial

import numpy as np

from raddino.metrics import regression
from raddino.metrics.ranking import Floats
from raddino.tasks.base import TASKS, Examples, Statistic
from raddino.tasks.probes.base import Loss


class Metadata:
    """MAE, R2, and AUROC averaged over the quartiles of the training targets (evaluation.md, "Metadata")."""

    loss: Loss = "squared"

    def score(self, output: Floats) -> Floats:
        """The predicted number itself."""
        return output

    def statistics(self, examples: Examples, val: Floats, test: Floats) -> dict[str, Statistic]:
        """Statistics of predictions ``test`` (N_test,) in the target's unit."""
        y = examples.target[examples.at["test"]]
        edges = np.unique(np.quantile(examples.target[examples.at["train"]], [0.25, 0.5, 0.75]))
        splits = np.array([y.min() <= edge < y.max() for edge in edges], dtype=bool)
        averaged = {"edges": edges[splits].tolist(), "left_out": edges[~splits].tolist()}
        return {
            "mae": Statistic.of(regression.mae, y, test),
            "r2": Statistic.of(regression.r2, y, test),
            "auroc_binned": Statistic.of(
                partial(regression.auroc_binned, edges=edges[splits] if splits.any() else edges),
                y,
                test,
                averaged,
                ranks=True,
            ),
        }


TASKS.register("regression")(Metadata())
