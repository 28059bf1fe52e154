"""Probes: what is trained on frozen features to ask what they hold. One face for all, chosen by ``kind``."""

from raddino.tasks.probes.attentive import AttentiveConfig
from raddino.tasks.probes.base import PROBES, Loss, Probe, ProbeConfig, ProbeSetting, Request, parse_probe
from raddino.tasks.probes.knn import KNNConfig
from raddino.tasks.probes.linear import LinearConfig, fit_linear_probe, fit_linear_probes, patient_shares
from raddino.tasks.probes.logistic import LogisticConfig
from raddino.tasks.probes.zero_shot import ZeroShotConfig

__all__ = [
    "PROBES",
    "AttentiveConfig",
    "KNNConfig",
    "LinearConfig",
    "LogisticConfig",
    "Loss",
    "Probe",
    "ProbeConfig",
    "ProbeSetting",
    "Request",
    "ZeroShotConfig",
    "fit_linear_probe",
    "fit_linear_probes",
    "parse_probe",
    "patient_shares",
]
