"""Problems with a known linear truth, shared by the tests of the probes."""

import numpy as np


def planted(n, d, loss, *, t=3, seed=0, val=60, test=80):
    """Train, validation and test (x, y): T labels, T classes one-hot, or T numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + val + test, d)) * np.exp(rng.normal(size=d)) + 3 * rng.normal(size=d)
    signal = (x - x.mean(0)) / x.std(0) @ rng.normal(size=(d, t)) / d**0.5
    noisy = 2 * signal + rng.gumbel(size=signal.shape)
    if loss == "logistic":
        y = (noisy > np.median(noisy, axis=0)).astype(float)
    elif loss == "softmax":
        y = np.eye(t)[noisy.argmax(1)]
    else:
        y = 50 + 10 * noisy
    parts = np.split(np.arange(len(x)), [n, n + val])
    return [(x[part].astype(np.float32), y[part]) for part in parts]
