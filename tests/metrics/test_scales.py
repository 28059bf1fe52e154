"""Which scale a metric is on, and who carries it."""

import numpy as np
import pytest

from raddino.metrics.scales import (
    COMPLEMENT,
    FISHER,
    IDENTITY,
    LOG,
    LOGIT,
    SQUARE,
    effective_patients,
    method,
    scale_of,
)  # fmt: skip


@pytest.mark.parametrize("scale", [COMPLEMENT, FISHER, IDENTITY, LOG, LOGIT, SQUARE])
def test_scales_are_monotone_and_invertible(scale):
    low, high = max(scale.low, -3), min(scale.high, 3)
    x = np.linspace(low, high, 102)[1:-1]
    z = scale.forward(x)
    np.testing.assert_allclose(scale.back(z), x)
    assert (np.diff(z) > 0).all() or (np.diff(z) < 0).all()


@pytest.mark.parametrize(
    ("metric", "scale"),
    [
        ("auroc", LOGIT), ("auroc_binned", LOGIT), ("auprc_macro_ovr", LOGIT), ("sensitivity_at_specificity_95", LOGIT),
        ("dice (left lung)", LOGIT), ("dice_all", LOGIT), ("surface_dice", LOGIT), ("false_alarm_rate", LOGIT),
        ("rules_f1_14+_macro", LOGIT), ("chexbert_f1 (edema)", LOGIT), ("bleu_4", LOGIT), ("radgraph_er_bar", LOGIT),
        ("map@5", LOGIT), ("precision@1", LOGIT), ("accuracy", LOGIT), ("mae", LOG), ("hd95", LOG), ("r2", COMPLEMENT),
        ("ece_temperature", SQUARE), ("cosine_same", FISHER), ("anything else", IDENTITY),
    ],
)  # fmt: skip
def test_every_metric_has_its_scale_and_a_signature_says_which(metric, scale):
    assert scale_of(metric) is scale
    assert method(scale).endswith(scale.name)


def test_carriers_are_the_patients_of_the_rarest_class():
    patients = np.array(["a", "a", "a", "b", "c", "d", "e"])
    target = np.array([1, 1, 1, 1, 0, 0, 0])
    assert effective_patients(patients) == 5
    assert effective_patients(patients, target) == 2
    assert effective_patients(patients, 1 - target) == 2
    assert effective_patients(patients, np.array([0, 0, 0, 1, 1, 1, 2]), least=2) == 1
    assert effective_patients(patients, np.array([2, 0, 0, 1, 1, 1, 1]), least=2) == 1
    assert effective_patients(patients, np.array([2, 0, 0, 1, 1, 1, 1]), least=3) == 4
    assert effective_patients([], []) == 0


def test_every_metric_that_tasks_report_has_a_scale_within_its_range():
    from raddino.report.tables import METRICS

    for name, kind in METRICS.items():
        scale = scale_of(name)
        assert scale is not IDENTITY, name
        assert (scale.low, scale.high) == (0, 1) or not kind.bounded or name in ("r2", "brier", "brier_temperature")
