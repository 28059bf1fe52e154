"""One label with several classes: a diagnosis, a view, a scanner; trained by one softmax."""

from functools import partial

import numpy as np
from scipy.special import softmax

from raddino.metrics import multiclass
from raddino.metrics.ranking import Floats
from raddino.tasks.base import TASKS, Examples, Statistic
from raddino.tasks.probes.base import Loss


class Multiclass:
    """Accuracy with the confusion matrix, balanced accuracy, macro one-against-rest AUROC and AUPRC.

    Macro averages leave out classes with fewer than ``min_positives`` test images; rows name both kinds.
    """

    loss: Loss = "softmax"

    def score(self, output: Floats) -> Floats:
        """(N, K) outputs to the position of the likeliest class (N,)."""
        return output.argmax(-1).astype(np.float64)

    def statistics(self, examples: Examples, val: Floats, test: Floats) -> dict[str, Statistic]:
        """Statistics of outputs ``test`` (N_test, K)."""
        y = examples.target[examples.at["test"]]
        p = softmax(test, axis=-1)
        counts = np.bincount(y.astype(int), minlength=len(examples.classes))
        kept = np.flatnonzero(counts >= examples.config.min_positives).tolist()
        left_out = [name for code, name in enumerate(examples.classes) if code not in kept]
        averaged = {"classes": [examples.classes[code] for code in kept], "left_out": left_out}
        matrix = {"classes": list(examples.classes), "confusion": multiclass.confusion(y, test).tolist()}
        return {
            "accuracy": Statistic.of(multiclass.accuracy, y, p, matrix),
            "balanced_accuracy": Statistic.of(partial(multiclass.balanced_accuracy, classes=kept), y, p, averaged),
            "auroc_macro_ovr": Statistic.of(partial(multiclass.auroc_macro, classes=kept), y, p, averaged, ranks=True),
            "auprc_macro_ovr": Statistic.of(partial(multiclass.auprc_macro, classes=kept), y, p, averaged, ranks=True),
        }


TASKS.register("multiclass")(Multiclass())
