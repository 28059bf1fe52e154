"""Collapse is seen when it is there and only then; statistics against closed forms and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from raddino.config import load_config, validate
from raddino.training.metrics_log import read_metrics
from raddino.training.monitor import EARLY, Monitor, MonitorConfig, effective_rank, knn_auroc, mean_cosine, verdict
from raddino.training.pretrain import PretrainConfig, pretrain

HEALTHY = {
    "log_prototypes": math.log(512), "teacher_entropy": 6.2, "student_entropy": 6.2,
    "teacher_sharpness_entropy": 5.0, "student_sharpness_entropy": 5.5, "mean_cosine": 0.3, "effective_rank": 40.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "healthy"),
        ({"teacher_sharpness_entropy": math.log(512)}, "entropy at ln K"),
        ({"teacher_entropy": 0.01}, "entropy at 0"),
        ({"student_entropy": 0.0}, "entropy at 0"),
        ({"mean_cosine": 0.9999}, "alike"),
        ({"effective_rank": 5.0}, "effective rank fell from 50.0 to 5.0"),
    ],
)
def test_each_sign_is_named_with_a_remedy(change, words):
    said = verdict(HEALTHY | change, best_rank=50.0)
    assert words in said
    assert ("Sinkhorn-Knopp" in said) == (words != "healthy")


def test_before_its_patience_ends_the_monitor_judges_nothing(corpus):
    monitor = Monitor(MonitorConfig(patience=5, images=16), corpus, np.arange(16), seed=0)
    assert monitor.judge(4, HEALTHY | {"mean_cosine": 0.9999}) == EARLY
    assert monitor.best_rank == 0
    assert monitor.judge(5, HEALTHY) == "healthy"
    assert "alike" in monitor.judge(6, HEALTHY | {"mean_cosine": 0.9999})


def test_effective_rank_of_known_spectra():
    basis = torch.linalg.qr(torch.randn(64, 8, dtype=torch.float64))[0]
    centred = torch.cat([basis, -basis])
    assert effective_rank(centred) == pytest.approx(8, abs=1e-9)
    assert effective_rank(torch.ones(10, 4)) == 0
    line = torch.randn(50, 1) * torch.randn(1, 6)
    assert effective_rank(line.double()) == pytest.approx(1, abs=1e-3)


def test_mean_cosine_is_the_mean_over_pairs():
    unit = torch.nn.functional.normalize(torch.randn(20, 5, dtype=torch.float64), dim=1)
    cosines = (unit @ unit.T)[~torch.eye(20, dtype=torch.bool)]
    assert mean_cosine(unit) == pytest.approx(cosines.mean().item())


def test_knn_vote_is_scikit_learns():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 6))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    target = (features[:, 0] + rng.normal(scale=0.3, size=80) > 0).astype(float)
    similarity = features @ features.T
    np.fill_diagonal(similarity, -np.inf)
    scores = []
    for i in range(80):
        others = np.arange(80) != i
        model = KNeighborsClassifier(10, metric="cosine", weights=lambda d: np.maximum(1 - d, 0))
        scores.append(model.fit(features[others], target[others]).predict_proba(features[i : i + 1])[0, 1])
    from sklearn.metrics import roc_auc_score

    assert knn_auroc(similarity, target) == pytest.approx(roc_auc_score(target, scores))
    target[:40] = np.nan
    assert 0 <= knn_auroc(similarity, target) <= 1
    assert math.isnan(knn_auroc(similarity, np.ones(80)))


@pytest.fixture(scope="module")
def short() -> dict:
    """What both runs below share: a small network, a batch of 16, and a pace for 120 steps."""
    return {
        "steps": 120, "batch_size": 16, "precision": "fp32", "checkpoint_every": 1000,
        "vit": {"embed_dim": 48, "depth": 2, "num_heads": 3, "patch_size": 8, "image_size": 32, "layerscale_init": 0.1},
        "views": {"global_size": 32, "local_size": 16, "local_views": 2, "blur": [0, 0, 0]},
        "schedule": {"lr": 2e-3, "warmup_steps": 10, "momentum": 0.95},
        "optim": {"betas": [0.9, 0.95], "layer_decay": 1, "patch_embed_lr": 1},
        "monitor": {"every": 40, "images": 16, "patience": 40},
    }  # fmt: skip


def looks(corpus, out, values) -> list[dict]:
    pretrain(corpus, out, validate(PretrainConfig, values), device="cpu", workers=0)
    return [line for line in read_metrics(out / "metrics.jsonl") if "verdict" in line]


def test_the_naive_objective_at_a_small_batch_is_recognised_as_collapsing(corpus, short, tmp_path):
    head = {"prototypes": 4096, "hidden": 64, "bottleneck": 32}
    last = looks(corpus, tmp_path / "run", short | {"ssl": {"head": head, "centering": "softmax"}})[-1]
    assert "collapse" in last["verdict"]
    assert last["teacher_sharpness_entropy"] == pytest.approx(math.log(4096), rel=5e-3)


def test_the_small_batch_objective_sharpens_and_stays_healthy(corpus, short, tmp_path):
    preset = load_config(PretrainConfig, "small-batch")
    assert 16 <= preset.batch_size <= 64
    ssl = preset.ssl.model_dump(mode="json")
    ssl["head"] |= {"prototypes": 256, "hidden": 64, "bottleneck": 32}
    temperatures = {k: v for k, v in preset.schedule.model_dump().items() if k.startswith("teacher_temperature")}
    values = short | {"ssl": ssl, "schedule": short["schedule"] | temperatures}
    first, *later = looks(corpus, tmp_path / "run", values)
    assert {line["verdict"] for line in later} == {"healthy"}
    assert later[-1]["teacher_sharpness_entropy"] < 0.9 * first["teacher_sharpness_entropy"]
    assert later[-1]["teacher_entropy"] > 0.95 * first["log_prototypes"]
    assert later[-1]["mean_cosine"] < 0.5 < first["mean_cosine"]
