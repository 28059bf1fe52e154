"""Collapse is seen when it is there and only then; statistics against closed forms and scikit-learn."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from raddino.config import load_config, validate
from raddino.errors import RaddinoError
from raddino.training.metrics_log import read_metrics
from raddino.training.monitor import (
    EARLY,
    Monitor,
    MonitorConfig,
    assignments,
    effective_rank,
    knn_auroc,
    mean_cosine,
    patch_quality,
    verdict,
)
from raddino.training.pretrain import PretrainConfig, pretrain

HEALTHY = {
    "log_prototypes": math.log(512), "teacher_entropy": 6.2, "student_entropy": 6.2,
    "teacher_sharpness_entropy": 5.0, "student_sharpness_entropy": 5.5, "mean_cosine": 0.3, "effective_rank": 40.0,
    "patch_locality": 0.2,
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
    said = verdict(HEALTHY | change, best_rank=50.0, best_locality=0.2)
    assert words in said
    assert ("Sinkhorn-Knopp" in said) == (words != "healthy")


def test_patch_features_that_degrade_are_named_with_another_remedy():
    said = verdict(HEALTHY | {"patch_locality": 0.05}, best_rank=50.0, best_locality=0.2)
    assert said.startswith("patch features degrade: their locality fell from 0.200 to 0.050")
    assert "ssl.gram.weight=2" in said
    assert "collapse" not in said
    both = verdict(HEALTHY | {"patch_locality": 0.0, "mean_cosine": 1.0}, best_rank=50.0, best_locality=0.2)
    assert "alike" in both, "what is worse comes first"
    assert verdict(HEALTHY | {"patch_locality": math.nan}, best_rank=50.0, best_locality=0.2) == "healthy"


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


@pytest.mark.parametrize(
    ("sign", "fine", "ill"),
    [
        ("teacher_sharpness_entropy", 0.994 * math.log(512), 0.996 * math.log(512)),
        ("teacher_entropy", 0.021 * math.log(512), 0.019 * math.log(512)),
        ("student_entropy", 0.021 * math.log(512), 0.019 * math.log(512)),
        ("mean_cosine", 0.994, 0.996),
        ("effective_rank", 12.6, 12.4),
        ("patch_locality", 0.101, 0.099),
    ],
)
def test_the_limit_of_each_sign(sign, fine, ill):
    assert verdict(HEALTHY | {sign: fine}, best_rank=50.0, best_locality=0.2) == "healthy"
    words = "degrade" if sign == "patch_locality" else "collaps"
    assert words in verdict(HEALTHY | {sign: ill}, best_rank=50.0, best_locality=0.2)


@pytest.mark.parametrize(
    ("sign", "limit"),
    [
        ("teacher_sharpness_entropy", 0.995 * math.log(512)),
        ("teacher_entropy", 0.02 * math.log(512)),
        ("student_entropy", 0.02 * math.log(512)),
        ("mean_cosine", 0.995),
        ("effective_rank", 12.5),
        ("patch_locality", 0.1),
    ],
)
def test_the_limit_itself_is_healthy(sign, limit):
    assert verdict(HEALTHY | {sign: limit}, best_rank=50.0, best_locality=0.2) == "healthy"


def test_entropies_of_known_assignments():
    """Softmax at temperature t of t * log(p) is p; the entropies follow by hand."""
    sure = torch.eye(4)[[0, 1, 0, 1]]
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4]).expand(4, 4)
    found = assignments(SimpleNamespace(predictions=(0.5 * shares.log()).bfloat16(), targets=sure), 0.5)
    own = -sum(p * math.log(p) for p in (0.1, 0.2, 0.3, 0.4))
    assert found["log_prototypes"] == pytest.approx(math.log(4))
    assert found["teacher_entropy"] == pytest.approx(math.log(2))
    assert found["teacher_sharpness_entropy"] == 0
    assert found["student_entropy"] == found["student_sharpness_entropy"] == pytest.approx(own, abs=0.01)


class AsGiven:
    """An encoder whose features are the images themselves, and patches multiples of them."""

    def __init__(self):
        self.batches = []

    def preprocess(self, images):
        self.batches.append(len(images))
        return torch.tensor(np.stack(images))

    def encode(self, batch):
        return SimpleNamespace(cls=batch, patches=batch[:, None, None] * torch.arange(1, 5).view(2, 2, 1))


def points(n: int = 40) -> SimpleNamespace:
    """Rows of a corpus, two a patient; ``label_a`` is balanced, ``label_b`` 3 to 1, ``label_rare`` has 7 positives."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n, 6))
    features[1::2] = features[::2] + rng.normal(scale=1e-3, size=(n // 2, 6))
    numbers = np.arange(n)
    labels = {"label_a": numbers % 4 < 2, "label_b": numbers % 4 == 0, "label_c": numbers % 5 == 0,
              "label_d": numbers % 3 == 0, "label_rare": numbers < 7, "label_text": numbers < 8}  # fmt: skip
    table = pd.DataFrame({"patient": numbers // 2, "sex": np.where(numbers < 19, "F", "M")})
    table = table.assign(**{name: values.astype(float) for name, values in labels.items()})
    return SimpleNamespace(read=lambda row: features[row], manifest=table, features=features)


def test_a_look_by_hand():
    corpus = points()
    monitor = Monitor(MonitorConfig(images=30, labels=("label_b", "sex")), corpus, np.arange(2, 38), seed=0)
    assert len(set(monitor.rows)) == 30
    assert set(monitor.rows) <= set(range(2, 38))
    assert (np.diff(monitor.rows) > 0).all()
    encoder = AsGiven()
    found = monitor.look(encoder, batch_size=16)
    assert encoder.batches == [16, 14]
    x = corpus.features[monitor.rows]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = unit @ unit.T
    others = ~np.eye(30, dtype=bool)
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    shares = singular / singular.sum()
    nearest = np.where(others, cosines, -2).argmax(1)
    assert found["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert found["mean_cosine"] == pytest.approx(cosines[others].mean())
    assert found["koleo_distance"] == pytest.approx(np.linalg.norm(unit - unit[nearest], axis=1).mean())
    patients = corpus.manifest["patient"].to_numpy()[monitor.rows]
    allowed = np.where(patients[:, None] != patients[None], cosines, -np.inf)
    target = corpus.manifest["label_b"].to_numpy()[monitor.rows]
    assert found["knn_b"] == pytest.approx(knn_auroc(allowed, target))
    assert found["knn_b"] != pytest.approx(knn_auroc(np.where(others, cosines, -np.inf), target)), "his own other image"
    assert found["cls_patch_cosine"] == pytest.approx(1)
    assert found["patch_locality"] == pytest.approx(0, abs=1e-12)
    signs = {"effective_rank", "mean_cosine", "koleo_distance", "cls_patch_cosine", "patch_locality"}
    assert set(found) == signs | {"knn_b", "knn_sex"}


def test_patch_quality_by_hand():
    """Every pair of patches one by one."""
    generator = torch.Generator().manual_seed(0)
    cls = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    patches = torch.randn(3, 4, 3, 5, generator=generator, dtype=torch.float64)
    places = [(r, c) for r in range(4) for c in range(3)]
    cosine = torch.nn.functional.cosine_similarity
    for image, found in enumerate(patch_quality(cls, patches).T):
        grid = patches[image]
        pairs = [(a, b) for a in places for b in places if a < b]
        said = torch.stack([cosine(grid[a], grid[b], dim=0) for a, b in pairs])
        touching = torch.tensor([abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in pairs])
        expected = [cosine(cls[image], grid, dim=-1).mean(), said[touching].mean() - said.mean()]
        torch.testing.assert_close(found, torch.stack(expected))


def test_patches_that_say_where_they_are_are_local_and_others_are_not():
    """Smooth maps of features; all alike; the class token in each; at random."""
    rows = torch.linspace(0, 3, 12, dtype=torch.float64)
    y, x = torch.meshgrid(rows, rows, indexing="ij")
    smooth = torch.stack([y.sin(), y.cos(), x.sin(), x.cos()], dim=-1)[None]
    cls = torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=torch.float64)
    swamped = smooth + 20 * cls[:, None, None]
    random = torch.randn(1, 12, 12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (_, local), (drowned, faint), (_, none), (_, alike) = (
        patch_quality(cls, patches)[:, 0].tolist() for patches in (smooth, swamped, random, torch.ones_like(smooth))
    )
    assert local > 0.2
    assert drowned > 0.99
    assert faint < 0.01
    assert abs(none) < 0.05
    assert alike == pytest.approx(0, abs=1e-12)


def test_one_patch_has_no_locality():
    assert patch_quality(torch.ones(2, 3), torch.ones(2, 1, 1, 3))[1].isnan().all()


def test_features_that_are_not_finite_end_the_run():
    corpus = points()
    corpus.features[3, 2] = np.nan
    monitor = Monitor(MonitorConfig(images=40), corpus, np.arange(40), seed=0)
    with pytest.raises(RaddinoError, match="not finite"):
        monitor.look(AsGiven())


def test_without_names_sex_and_the_most_balanced_labels_are_probed():
    corpus = points()
    probes = Monitor(MonitorConfig(images=40), corpus, np.arange(40), seed=0).probes
    assert [probe.name for probe in probes] == ["a", "sex", "d", "b"]
    assert probes[1].target.sum() == 19
    asked = ("label_a", "label_b", "label_c", "label_d", "label_rare", "label_text", "sex")
    probes = Monitor(MonitorConfig(images=40, labels=asked), corpus, np.arange(40), seed=0).probes
    assert [probe.name for probe in probes] == ["a", "sex", "d", "b", "c", "text"], "seven are too rare, eight are not"


def test_the_best_locality_is_kept_and_restored_from_what_was_judged(corpus):
    monitor = Monitor(MonitorConfig(patience=5, images=16), corpus, np.arange(16), seed=0)
    monitor.judge(5, HEALTHY | {"patch_locality": 0.4})
    monitor.judge(6, HEALTHY | {"patch_locality": math.nan})
    monitor.judge(7, HEALTHY | {"patch_locality": 0.3})
    assert "locality fell from 0.400" in monitor.judge(8, HEALTHY | {"patch_locality": 0.1})
    monitor.restore([{"step": 4, "patch_locality": 0.9}, {"step": 5, "patch_locality": 0.3}, {"step": 6}])
    assert (monitor.best_locality, monitor.best_rank) == (0.3, 0)


def test_the_best_rank_is_kept_and_restored_from_what_was_judged(corpus):
    monitor = Monitor(MonitorConfig(patience=5, images=16), corpus, np.arange(16), seed=0)
    monitor.judge(5, HEALTHY | {"effective_rank": 60.0})
    monitor.judge(6, HEALTHY | {"effective_rank": 30.0})
    assert monitor.best_rank == 60
    assert "rank fell from 60.0" in monitor.judge(7, HEALTHY | {"effective_rank": 14.0})
    monitor.restore([
        {"step": 4, "effective_rank": 99.0}, {"step": 5, "effective_rank": 7.0}, {"step": 6},
        {"step": 7, "effective_rank": "nan"}, {"step": 8, "effective_rank": 3},
    ])  # fmt: skip
    assert monitor.best_rank == 7
    monitor.restore([])
    assert monitor.best_rank == 0


def test_a_vote_counts_ten_neighbours_and_none_that_point_away():
    """The first image hears ten of its eleven neighbours, all positive; the second only some that point away."""
    target = np.array([0.0, 1.0] + [1.0] * 10 + [0.0] * 6)
    similarity = np.full((18, 18), -np.inf)
    similarity[0, 1:12] = np.linspace(0.9, 0.8, 11)
    similarity[1, 12:] = -0.5
    found = knn_auroc(similarity, target)
    votes = np.zeros(18)
    votes[0] = 1.0
    from sklearn.metrics import roc_auc_score

    assert found == pytest.approx(roc_auc_score(target, votes))
