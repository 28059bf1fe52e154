"""The whole grid of linear probes as one batched problem, against loops of single fits on the same features.

    python benchmarks/probe.py [--images 15000 --dim 768 --labels 8 --device cpu]

Learning rates x weight decays x seeds x label fractions x labels, then in the same process

* single PyTorch heads: ``nn.Linear`` and ``torch.optim.SGD`` with the very recipe (standardised features, rates and
  decays relative to the curvature, initial weights, batches); their outputs have to be the batched ones;
* scikit-learn's ``SGDClassifier`` (averaged, as many images seen) on the same grid;
* scikit-learn's ``LogisticRegression``, one fit a penalty, seed, fraction and label: the learning rates have no
  counterpart, so the loop has that many fewer fits. Last, the same fits on all images against the ``logistic`` probe,
  which solves all penalties and labels at once and has to find the same solutions.

Loops are timed on ``--sample`` heads a fraction, drawn evenly, and multiplied by the heads of that fraction; accuracy
is compared on labels whose grid is run in full. Times are of training alone, outputs and selection included.
"""

import argparse
import math
import time
from functools import partial

import numpy as np
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from raddino.tasks.probes import PROBES, LinearConfig, LogisticConfig, Request, fit_linear_probes, patient_shares

FRACTIONS = (0.01, 0.05, 0.1, 0.25, 1.0)
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def main() -> None:
    """Parse options, run the three ways, print their times and how far they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=15000, help="of training; half as many validate, as many test")
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--labels", type=int, default=8)
    parser.add_argument("--sample", type=int, default=2, help="heads of each fraction that the loops really train")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    config = LinearConfig()
    (x, y), val, test = corpus(options.images, options.dim, options.labels)
    patients = np.arange(len(x)) // 2
    shares = patient_shares(patients, FRACTIONS, config.seeds)
    per_fraction = len(config.grid) * config.seeds * options.labels
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}; {len(x)} images, {options.dim} features, {options.labels} labels")
    print(f"{len(FRACTIONS) * per_fraction} heads = {len(config.grid)} grid points x {config.seeds} seeds x "
          f"{len(FRACTIONS)} fractions x {options.labels} labels")  # fmt: skip

    request = Request("logistic", device=options.device)
    fit_linear_probes((x[:64], y[:64]), val, config.model_copy(update={"steps": 2}), request)  # warm up
    probes, batched = timed(lambda: fit_linear_probes((x, y), val, config, request, shares), device)
    print(f"batched:         {batched:9.1f} s, {1000 * batched / (len(FRACTIONS) * per_fraction):.2f} ms a head")
    one = config.model_copy(update={"learning_rates": (0.01,), "weight_decays": (0.1,), "seeds": 1})
    single = shares[-1:, :1]
    _, alone = timed(lambda: fit_linear_probes((x, y[:, :1]), val_of(val, [0]), one, request, single), device)
    print(f"batched, 1 head: {alone:9.1f} s")
    torch_heads(x, y, val, test, shares, config, probes, batched, options.sample, device)
    sklearn_fits(x, y, val, test, shares, config, probes, batched, options.sample)
    exact_fits(x, y, val, test, options.device)


def corpus(n: int, d: int, t: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train, validation and test features of correlated columns, and labels of prevalence 10 to 50 %."""
    rng = np.random.default_rng(0)
    spectrum = np.exp(-4 * np.arange(d) / d)
    mixing = np.linalg.qr(rng.normal(size=(d, d)))[0] * spectrum[:, None]
    latent = rng.normal(size=(2 * n + n // 2, d))
    signal = latent[:, : max(4, d // 16)] @ rng.normal(size=(max(4, d // 16), t))
    signal = 2 * signal / signal.std(0) + np.linspace(-3, 0, t)
    y = (rng.random(signal.shape) < expit(signal)).astype(np.float32)
    x = (latent @ mixing + 3 * rng.normal(size=d)).astype(np.float32)
    parts = np.split(np.arange(len(x)), [n, n + n // 2])
    return [(x[part], y[part]) for part in parts]


def val_of(split: tuple[np.ndarray, np.ndarray], labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The same images with some of the labels."""
    return split[0], split[1][:, labels]


def timed(call, device: torch.device):
    """Result and seconds of a call."""
    start = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def train_head(x, y, rate: float, decay: float, seed: int, config: LinearConfig, device: torch.device):
    """One ``nn.Linear`` by SGD; a function from features to logits."""
    n, d = x.shape
    scaler = StandardScaler().fit(x.astype(np.float64))
    z = torch.from_numpy(scaler.transform(x).astype(np.float32))
    size = min(n, config.batch_size)
    curvature = 0.25 * ((torch.linalg.matrix_norm(z, 2) ** 2 + z.square().sum() / size) / n + 1)
    generator = torch.Generator().manual_seed(seed)
    weight = 0.01 / d**0.5 * torch.randn(d, 1, generator=generator)
    if n < d:  # what no image can see stays out
        weight = z.T @ torch.linalg.lstsq(z.T, weight, driver="gelsd").solution
    batches = torch.cat([torch.randperm(n, generator=generator) for _ in range(-(-config.steps * size // n))])
    head = torch.nn.Linear(d, 1)
    with torch.no_grad():
        head.weight.copy_(weight.T)
        head.bias.fill_(torch.logit(torch.tensor(y.mean()), eps=1e-3))
    head, z, target = head.to(device), z.to(device), torch.from_numpy(y)[:, None].to(device)
    optimizer = torch.optim.SGD(
        [{"params": [head.weight], "weight_decay": float(decay * curvature)}, {"params": [head.bias]}],
        lr=float(rate / curvature),
        momentum=config.momentum,
    )
    cosine = [0.5 + 0.5 * math.cos(math.pi * step / config.steps) for step in range(config.steps + 1)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine.__getitem__)
    loss = torch.nn.BCEWithLogitsLoss()
    for step in range(config.steps):
        at = batches[step * size : (step + 1) * size].to(device)
        optimizer.zero_grad()
        loss(head(z[at]), target[at]).backward()
        optimizer.step()
        schedule.step()

    @torch.no_grad()
    def logits(features: np.ndarray) -> np.ndarray:
        return head(torch.from_numpy(scaler.transform(features).astype(np.float32)).to(device)).cpu().numpy()[:, 0]

    return logits


def torch_heads(x, y, val, test, shares, config, probes, batched: float, sample: int, device) -> None:
    """Single heads of the chosen grid points: the time of the whole loop, and agreement with the batched heads."""
    heads = len(config.grid) * config.seeds * y.shape[1]
    total, far, scores = 0.0, 0.0, []
    for share, probe in zip(shares, probes, strict=True):
        for index in range(sample):
            seed, label = index % config.seeds, index % y.shape[1]
            chosen, rows = probe.chosen[label], np.flatnonzero(share[seed])
            start = time.perf_counter()
            rate, decay = chosen["learning_rate"], chosen["weight_decay"]
            head = train_head(x[rows], y[rows, label], rate, decay, seed, config, device)
            head(val[0])
            total += (time.perf_counter() - start) * heads / sample
            ours, theirs = probe.predict(test[0])[seed, :, label], head(test[0])
            far = max(far, np.abs(ours - theirs).max() / np.abs(theirs).max())
            scores.append([roc_auc_score(test[1][:, label], one) for one in (ours, theirs)])
    difference = np.abs(np.subtract(*np.transpose(scores))).max()
    print(f"PyTorch heads:   {total:9.1f} s in a loop of {heads * len(probes)}: {total / batched:.1f}x; logits differ "
          f"by at most {far:.1e} of the largest, AUROC by {difference:.1e}")  # fmt: skip


def sklearn_fits(x, y, val, test, shares, config, probes, batched: float, sample: int) -> None:
    """Loops of both classifiers, chosen on validation: time of the whole loop, test AUROC and log loss."""

    def sgd(rate: float, decay: float, images: int) -> SGDClassifier:
        bound = 0.25 * (x.shape[1] + 1)  # curvature of the loss of one image
        epochs = max(1, config.steps * min(images, config.batch_size) // images)
        return SGDClassifier("log_loss", alpha=decay * bound, learning_rate="constant", eta0=rate / bound,
                             max_iter=epochs, tol=None, average=True, random_state=0)  # fmt: skip

    loops = {
        "SGDClassifier": [partial(sgd, *point) for point in config.grid],
        "LogisticRegression": [lambda images, c=c: LogisticRegression(C=c, max_iter=1000) for c in PENALTIES],
    }
    for name, grid in loops.items():
        heads, total, scores = len(grid) * config.seeds * y.shape[1], 0.0, []
        for share, probe in zip(shares, probes, strict=True):
            for index in range(sample):
                seed, label = index % config.seeds, index % y.shape[1]
                rows = np.flatnonzero(share[seed])
                if len(np.unique(y[rows, label])) < 2:
                    continue
                start = time.perf_counter()
                scaler = StandardScaler().fit(x[rows])
                z, outputs = scaler.transform(x[rows]), []
                for make in grid:
                    fit = make(len(rows)).fit(z, y[rows, label])
                    outputs.append([expit(fit.decision_function(scaler.transform(part[0]))) for part in (val, test)])
                total += (time.perf_counter() - start) * heads / len(grid) / sample
                best = min(outputs, key=lambda one: log_loss(val[1][:, label], one[0]))[1]
                ours, truth = expit(probe.predict(test[0])[seed, :, label]), test[1][:, label]
                scores.append([metric(truth, one) for metric in (roc_auc_score, log_loss) for one in (ours, best)])
        auroc, their_auroc, loss, their_loss = np.mean(scores, axis=0)
        print(f"{name}: {total:9.1f} s in a loop of {heads * len(probes)}: {total / batched:.1f}x; mean test AUROC "
              f"{auroc:.4f} against {their_auroc:.4f}, log loss {loss:.4f} against {their_loss:.4f}")  # fmt: skip


def exact_fits(x, y, val, test, device: str) -> None:
    """All penalties and labels of one ``logistic`` probe against as many scikit-learn fits, full time of both."""
    config, request = LogisticConfig(c=PENALTIES), Request("logistic", device=device)
    start = time.perf_counter()
    probe = PROBES["logistic"].fit((x, y), val, config, request)
    ours = time.perf_counter() - start
    start, fits = time.perf_counter(), {}
    scaler = StandardScaler().fit(x.astype(np.float64))
    z = scaler.transform(x)
    for label in range(y.shape[1]):
        for c in PENALTIES:
            fits[c, label] = LogisticRegression(C=c, max_iter=1000, tol=1e-6).fit(z, y[:, label])
    theirs = time.perf_counter() - start
    found = [
        fits[one["c"], label].decision_function(scaler.transform(test[0])) for label, one in enumerate(probe.chosen)
    ]
    far = np.abs(probe.predict(test[0])[0].T - np.array(found)).max() / np.abs(found).max()
    print(f"logistic probe:  {ours:9.1f} s, scikit-learn {theirs:.1f} s for {len(fits)} fits: {theirs / ours:.1f}x; "
          f"logits of the chosen differ by at most {far:.1e} of the largest")  # fmt: skip


if __name__ == "__main__":
    main()
