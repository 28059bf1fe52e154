"""Analyses beside the main table, each a module that registers one function in :data:`~.base.ANALYSES`."""

from raddino.benchmark.analyses import (  # noqa: F401
    calibration,
    confounders,
    consistency,
    decision_curves,
    label_efficiency,
    label_noise,
    retrieval,
    robustness,
    site_ranks,
    subgroups,
)
