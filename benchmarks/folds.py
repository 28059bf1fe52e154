"""Whether intervals of repeated cross-validation hold what a learner reaches on new patients.

Patients of two classes with normal features, the first two of which tell them apart; a ridge classifier; its true AUROC
in closed form, averaged over 4,000 training sets of the size that a fold trains on. ``corrected`` is
:func:`raddino.metrics.folds.corrected_mean`; ``patients`` takes the probes as given and the out-of-fold placements of
patients, averaged over repeats, as the only thing that varies (t on the logit scale).

    python benchmarks/folds.py [REPLICATES]
"""

import sys

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, t

from raddino.metrics.folds import corrected_mean

SETTINGS = ((80, 0.4, 8, 0.7), (80, 0.25, 8, 0.9), (60, 0.5, 20, 0.9), (120, 0.2, 8, 0.6), (100, 0.3, 8, 0.0))
"""Patients, share of positives, features, distance of the classes in the first two."""
FOLDS, REPEATS = 5, 5


def fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ridge weights (D,) of features (N, D) and classes (N,)."""
    centred = x - x.mean(0)
    return np.linalg.solve(centred.T @ centred + np.eye(x.shape[1]), centred.T @ (y - y.mean()))


def classes(n: int, share: float) -> np.ndarray:
    """(n,) 1 for the first ``share``, 0 for the others."""
    return (np.arange(n) < round(n * share)).astype(float)


def coverage(n: int, share: float, features: int, distance: float, replicates: int) -> tuple[float, float, float]:
    """True AUROC, and the share of intervals that hold it: corrected, patients."""
    rng, shift = np.random.default_rng(1), np.r_[distance, distance, np.zeros(features - 2)]

    def draw(y: np.ndarray) -> np.ndarray:
        return rng.normal(size=(len(y), features)) + y[:, None] * shift

    inside, y = classes(round(n * (FOLDS - 2) / FOLDS), share), classes(n, share)
    weights = [fit(draw(inside), inside) for _ in range(4000)]
    truth = float(np.mean([norm.cdf(w @ shift / np.sqrt(2 * w @ w)) for w in weights]))
    held = np.zeros(2)
    for _ in range(replicates):
        x, values, placement = draw(y), np.empty((REPEATS, FOLDS)), np.zeros(n)
        for repeat in range(REPEATS):
            fold = np.empty(n, int)
            for label in (0, 1):
                own = np.flatnonzero(y == label)
                fold[rng.permutation(own)] = np.arange(len(own)) % FOLDS
            for tested in range(FOLDS):
                train = ~np.isin(fold, (tested, (tested + 1) % FOLDS))
                score = x @ fit(x[train], y[train])
                positive, negative = (np.flatnonzero((fold == tested) & (y == label)) for label in (1, 0))
                above = score[positive][:, None] > score[negative]
                values[repeat, tested] = above.mean()
                placement[positive] += above.mean(1) / REPEATS
                placement[negative] += above.mean(0) / REPEATS
        one = corrected_mean(values, 1 / (FOLDS - 2), 0, 1)
        groups = [placement[y == label] for label in (0, 1)]
        error = np.sqrt(sum(group.var(ddof=1) / len(group) for group in groups)) / (one.value * (1 - one.value))
        half = t.ppf(0.975, min(map(len, groups)) - 1) * error
        low, high = expit(logit(one.value) + np.array([-half, half]))
        held += one.low <= truth <= one.high, low <= truth <= high
    return truth, *(held / replicates)


if __name__ == "__main__":
    replicates = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    print(
        f"{FOLDS} folds x {REPEATS}, {replicates} replicates\npatients  positives  features  AUROC  corrected  patients"
    )
    for setting in SETTINGS:
        truth, *shares = coverage(*setting, replicates)
        n, share, features, _ = setting
        print(f"{n:>8}  {share:>9.0%}  {features:>8}  {truth:5.3f}  {shares[0]:>9.1%}  {shares[1]:>8.1%}", flush=True)
