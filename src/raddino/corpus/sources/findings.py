"""One name a finding, whatever a data set calls it, so that tasks are shared between sources."""

from raddino.corpus.labels import snake_case

SAME = {
    "effusion": "pleural_effusion",
    "fibrosis": "pulmonary_fibrosis",
    "infiltrate": "infiltration",
    "infiltrates": "infiltration",
    "pulmonary_edema": "edema",
    "normal": "no_finding",
    "ild": "interstitial_lung_disease",
    "enlarged_pa": "enlarged_pulmonary_artery",
    "pulmonary_artery_enlargement": "enlarged_pulmonary_artery",
    "mass": "lung_mass",
    "pulmonary_mass": "lung_mass",
    "copd_signs": "copd",
    "chest_tube": "chest_drain",
    "chest_drain_tube": "chest_drain",
    "acute_rib_fracture": "rib_fracture",
    "other_disease": "other_diseases",
}
"""What sources say, in snake case, to the name used here; other names stay as they are in snake case.

Left apart on purpose: NIH's ``hernia`` and PadChest's ``hiatal_hernia``, the 14-label ``lung_lesion`` and the
others' nodules and masses, and ``opacity`` terms that are not VinDr's or CheXpert's ``lung_opacity``.
"""


def label_column(name: str) -> str:
    """The manifest column of a finding: ``"Effusion"`` and ``"Pleural Effusion"`` to ``label_pleural_effusion``."""
    word = snake_case(name)
    return f"label_{SAME.get(word, word)}"
