"""Which scale a metric is on, and who carries it."""

import numpy as np
import pytest

from raddino.metrics.clinical import FINDINGS_5, FINDINGS_14, f1_macro, f1_where_present, label_counts
from raddino.metrics.scales import (
    BIASED_LOGIT,
    COMPLEMENT,
    FISHER,
    IDENTITY,
    LOG,
    LOGIT,
    SHARE,
    SQUARE,
    carriers_of_average,
    carriers_of_case,
    defined_patients,
    effective_patients,
    method,
    scale_of,
)  # fmt: skip


@pytest.mark.parametrize("scale", [BIASED_LOGIT, COMPLEMENT, FISHER, IDENTITY, LOG, LOGIT, SHARE, SQUARE])
def test_scales_are_monotone_and_invertible(scale):
    low, high = max(scale.low, -3), min(scale.high, 3)
    x = np.linspace(low, high, 102)[1:-1]
    z = scale.forward(x)
    np.testing.assert_allclose(scale.back(z), x)
    assert (np.diff(z) > 0).all() or (np.diff(z) < 0).all()


def test_the_square_scale_squares():
    assert SQUARE.forward(0.5) == 0.25


@pytest.mark.parametrize(
    ("metric", "scale"),
    [
        ("auroc", LOGIT), ("auroc_binned", LOGIT), ("auprc_macro_ovr", BIASED_LOGIT),
        ("sensitivity_at_specificity_95", SHARE),
        ("dice (left lung)", LOGIT), ("dice_all", LOGIT), ("surface_dice", LOGIT), ("false_alarm_rate", SHARE),
        ("rules_f1_14+_macro", BIASED_LOGIT), ("rules_f1_5_micro", LOGIT), ("auprc", LOGIT),
        ("chexbert_f1 (edema)", SHARE), ("bleu_4", LOGIT), ("radgraph_er_bar", LOGIT),
        ("map@5", LOGIT), ("precision@1", LOGIT), ("accuracy", SHARE), ("balanced_accuracy", LOGIT),
        ("mae", LOG), ("hd95", LOG), ("r2", COMPLEMENT),
        ("ece_temperature", SQUARE), ("cosine_same", FISHER), ("anything else", IDENTITY),
    ],
)  # fmt: skip
def test_every_metric_has_its_scale_and_a_signature_says_which(metric, scale):
    assert scale_of(metric) is scale
    assert method(scale).endswith(scale.name)
    assert ("normal" in method(scale)) == (scale is SHARE)


def test_carriers_are_the_patients_of_the_rarest_class():
    patients = np.array(["a", "a", "a", "b", "c", "d", "e"])
    target = np.array([1, 1, 1, 1, 0, 0, 0])
    assert effective_patients(patients) == 5
    assert effective_patients(patients, target) == 2
    assert effective_patients(patients, 1 - target) == 2
    assert effective_patients(patients, np.array([0, 0, 0, 1, 1, 1, 2]), least=2) == 1
    assert effective_patients(patients, np.array([2, 0, 0, 1, 1, 1, 1]), least=2) == 1
    assert effective_patients(patients, np.array([2, 0, 0, 1, 1, 1, 1]), least=3) == 4
    assert effective_patients(list("abc"), [0, 0, 1]) == effective_patients(["a"]) == 1
    assert effective_patients([], []) == effective_patients([]) == 0


def test_every_metric_that_tasks_report_has_a_scale_within_its_range():
    from raddino.report.tables import METRICS

    for name, kind in METRICS.items():
        scale = scale_of(name)
        assert scale is not IDENTITY, name
        assert (scale.low, scale.high) == (0, 1) or not kind.bounded or name in ("r2", "brier", "brier_temperature")


def test_only_averages_of_auprc_are_moved_back():
    assert scale_of("auprc", averaged=True) is BIASED_LOGIT
    assert scale_of("auroc", averaged=True) is LOGIT


def test_patients_who_define_a_number_are_those_with_a_value(monkeypatch):
    patients = np.array(["b", "a", "a", "c", "d", "d"])
    values = np.array([np.nan, np.nan, 0.0, np.nan, 1.0, 2.0])

    def mean(weights):
        with np.errstate(invalid="ignore"):
            return weights @ np.nan_to_num(values) / (weights @ np.isfinite(values))

    assert defined_patients(patients, mean) == 2
    monkeypatch.setattr("raddino.metrics.scales.CHUNK_CELLS", 6)
    assert defined_patients(patients, mean) == 2


def test_an_average_is_carried_by_the_harmonic_mean_of_its_members_that_of_auprc_by_the_poorest():
    assert carriers_of_average("auroc", [10, 40, 40]) == 20
    assert carriers_of_average("auprc", [10, 40, 40]) == 10
    assert carriers_of_average("auroc", [7]) == 7
    assert carriers_of_average("auroc", [0, 40]) == 0
    assert carriers_of_average("auroc", []) == 0


@pytest.mark.parametrize(("group", "expected"), [("14", 10), ("5+", 8)])
def test_a_macro_f1_is_carried_by_the_patients_with_its_findings(group, expected):
    truth = np.zeros((9, 14))
    truth[:4, FINDINGS_14.index("edema")] = 1
    truth[:5, FINDINGS_14.index("atelectasis")] = 1
    truth[:3, FINDINGS_14.index("fracture")] = 1
    counts = label_counts(truth, truth)  # (1/4 + 1/5 + 1/3)^2 / (1/4^3 + 1/5^3 + 1/3^3) = 10.1; without fracture 8.6

    def single(at):
        return lambda weights: f1_where_present(np.tensordot(weights, counts[:, [at]], 1))[..., 0]

    computed = {f"rules_f1 ({name})": single(at) for at, name in enumerate(FINDINGS_14)}
    computed[f"rules_f1_{group}_macro"] = lambda weights: f1_macro(np.tensordot(weights, counts, 1))
    assert len(FINDINGS_5) == 5
    assert carriers_of_case(f"rules_f1_{group}_macro", computed, np.arange(9)) == expected
    assert carriers_of_case("rules_f1 (fracture)", computed, np.arange(9)) == 3
