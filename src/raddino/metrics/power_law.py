"""Power laws L = a x^-b + c through losses of several sizes, with intervals, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit
from scipy.stats import norm

from raddino.errors import RaddinoError
from raddino.metrics.ranking import Floats

DELTA = 3e-2
"""Log residuals beyond this count linearly (Huber)."""
SIZES, SPARE = 4, 2
"""Least number of different sizes, and of losses beyond the three parameters."""
STEEPEST = 5.0
"""Greatest exponent; a bound that comes near it says that the losses do not bound the exponent."""
EXPONENTS = (0.05, 0.15, 0.3, 0.6, 1.0, 2.0)
FLOORS = (1e-3, 0.3, 0.6, 0.9, 0.99)
"""Starts: exponents, and shares of the least loss that the floor c takes."""
STEPS = 80
STEADY = 1e-9


@dataclass(frozen=True)
class PowerLaw:
    """L = a (x / unit)^-b + c.

    Attributes:
        a, b, c: of the fit; a and c are losses, b has no unit.
        unit: geometric mean of the sizes.
        low, high: 95 % interval of b.
        floor: 95 % interval of c.
        losses, sizes: how many were fitted, and how many different sizes they are of.
    """

    a: float
    b: float
    c: float
    unit: float
    low: float
    high: float
    floor: tuple[float, float]
    losses: int
    sizes: int

    @property
    def told(self) -> bool:
        """Whether the losses bound the exponent on both sides, away from 0."""
        return self.low > 0.01 and self.high < 0.98 * STEEPEST

    def __call__(self, x: ArrayLike) -> Floats:
        """Losses at the sizes ``x``."""
        return self.a * (np.asarray(x, dtype=np.float64) / self.unit) ** -self.b + self.c


def fit_power_law(sizes: ArrayLike, losses: ArrayLike, resamples: int = 500, seed: int = 0) -> PowerLaw:
    """Least Huber loss of the log residuals from many starts (Hoffmann et al. 2022, arXiv 2203.15556, appendix D.3).

    The interval comes from a bootstrap of the residuals of all arms, seeds of one size among them: sizes are chosen,
    not drawn, and stay. Residuals are widened by sqrt(n / (n - 3)), for the parameters that were fitted to them, and by
    t / z of n - 3 degrees of freedom, for their number.

    Args:
        sizes: (N,) above 0: images, FLOP, parameters; several losses of one size are its seeds.
        losses: (N,) above 0.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        RaddinoError: fewer than four sizes, fewer than five losses, or a number that is not above 0: why no law is
            fitted, in words.
    """
    x, loss = np.asarray(sizes, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if len(x) != len(loss):
        raise RaddinoError(f"{len(x)} sizes for {len(loss)} losses")
    if not (np.isfinite(x).all() and np.isfinite(loss).all() and (x > 0).all() and (loss > 0).all()):
        raise RaddinoError("a power law needs sizes and losses above 0")
    different = len(np.unique(x))
    if different < SIZES or len(loss) < 3 + SPARE:
        raise RaddinoError(
            f"{len(loss)} losses of {different} sizes cannot carry a power law of three parameters: it takes "
            f"{SIZES} sizes and {3 + SPARE} losses"
        )
    unit = float(np.exp(np.log(x).mean()))
    u, y = np.log(x / unit), np.log(loss)
    best, value = _descend(u, np.repeat(y[None], len(EXPONENTS) * len(FLOORS), 0), _starts(y))
    fitted = best[np.argmin(value)]
    residual = y - _predict(fitted[None], u)[0]
    spare = len(y) - 3
    residual = (residual - residual.mean()) * np.sqrt(len(y) / spare) * stdtrit(spare, 0.975) / norm.ppf(0.975)
    drawn = np.random.default_rng([seed, len(y)]).choice(residual, (resamples, len(y)))
    again = _predict(fitted[None], u) + drawn
    few = np.array([fitted, *_starts(y)[7 :: len(FLOORS) + 1]])
    found, costs = _descend(u, np.repeat(again, len(few), 0), np.tile(few, (resamples, 1)))
    least = costs.reshape(resamples, len(few)).argmin(1)
    chosen = found.reshape(resamples, len(few), 3)[np.arange(resamples), least]
    low, high = np.quantile(chosen[:, 1], (0.025, 0.975))
    floor = np.exp(np.quantile(chosen[:, 2], (0.025, 0.975)))
    a, b, c = float(np.exp(fitted[0])), float(fitted[1]), float(np.exp(fitted[2]))
    return PowerLaw(a, b, c, unit, min(float(low), b), max(float(high), b), (float(floor[0]), float(floor[1])),
                    len(loss), different)  # fmt: skip


def _starts(y: Floats) -> Floats:
    """(S, 3) log a, b, log c."""
    least, mean = np.exp(y.min()), np.exp(y.mean())
    return np.array([(np.log(max(mean - share * least, 1e-3 * mean)), b, np.log(share * least))
                     for b in EXPONENTS for share in FLOORS])  # fmt: skip


def _predict(theta: Floats, u: Floats) -> Floats:
    """(P, N) log losses of P laws (P, 3)."""
    return np.logaddexp(theta[:, :1] - theta[:, 1:2] * u, theta[:, 2:])


def _cost(residual: Floats) -> Floats:
    size = np.abs(residual)
    return np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA)).sum(1)


def _descend(u: Floats, y: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """Levenberg and Marquardt's steps with Huber's weights, for P problems at once.

    Args:
        u: (N,) log sizes.
        y: (P, N) log losses.
        theta: (P, 3) starts.

    Returns:
        (P, 3) and the (P,) costs.
    """
    least = y.min(1)
    lowest = np.column_stack([np.full_like(least, -50.0), np.zeros_like(least), least - 12])
    highest = np.column_stack([np.full_like(least, 50.0), np.full_like(least, STEEPEST), least])
    theta = theta.clip(lowest, highest)
    damping, cost = np.full(len(y), 1e-2), _cost(_predict(theta, u) - y)
    for _ in range(STEPS):
        predicted = _predict(theta, u)
        residual = predicted - y
        share = np.exp(theta[:, :1] - theta[:, 1:2] * u - predicted)
        slopes = np.stack([share, -share * u, 1 - share], axis=2)
        weight = np.minimum(1, DELTA / np.maximum(np.abs(residual), 1e-300))
        normal = np.einsum("pni,pn,pnj->pij", slopes, weight, slopes)
        normal[:, range(3), range(3)] += damping[:, None] * (normal[:, range(3), range(3)] + 1e-6)
        step = np.linalg.solve(normal, np.einsum("pni,pn,pn->pi", slopes, weight, residual)[..., None])[..., 0]
        tried = (theta - step).clip(lowest, highest)
        reached = _cost(_predict(tried, u) - y)
        better = reached < cost
        gain = np.where(better, cost - reached, 0)
        theta, cost = np.where(better[:, None], tried, theta), np.where(better, reached, cost)
        damping = np.where(better, damping / 3, damping * 4).clip(1e-10, 1e8)
        if (gain < STEADY * cost).all() and (better.any() or (damping > 1e6).all()):
            break
    return theta, cost
