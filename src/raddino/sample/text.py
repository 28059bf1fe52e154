"""The findings section of a report, written from the labels and what lies behind them."""

from collections.abc import Sequence

import numpy as np

from raddino.sample.devices import Devices
from raddino.sample.findings import Findings, Pneumothorax
from raddino.sample.patient import Patient


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _grade(
    value: float, limits: tuple[float, float], words: tuple[str, str, str] = ("small", "moderate", "large")
) -> str:
    return words[int(value > limits[0]) + int(value > limits[1])]


def _zone(centre: tuple[float, float, float]) -> str:
    return ("upper", "mid", "lower")[min(2, int(centre[0] * 3))]


def report(patient: Patient, study: int, findings: Findings, devices: Devices, view: str) -> str:
    """Findings text of one image: every label is named, and what is absent is denied or left out.

    The order is the radiologist's: devices, lungs, pleura, heart, bones. The wording varies from study to
    study; it is a pure function of the arguments.
    """
    rng = np.random.default_rng([patient.seed, 12, patient.index, study, view == "LATERAL"])
    sentences = [
        *_devices(rng, devices),
        *_lungs(rng, findings),
        *_pleura(rng, findings),
        _heart(rng, findings),
    ]
    sentences += _bones(rng, findings)
    if not any(findings.labels.values()) and rng.random() < 0.5:
        sentences.append("No acute cardiopulmonary abnormality.")
    return " ".join(sentences)


def _devices(rng: np.random.Generator, devices: Devices) -> list[str]:
    out = []
    if devices.tube_height is not None:
        out.append(f"Endotracheal tube tip is {devices.tube_height:.1f} cm above the carina.")
    if devices.drain_side is not None:
        out.append(_pick(rng, ("{} chest drain in place.", "A {} chest drain is present.")).format(devices.drain_side))
    if devices.pacemaker_side is not None:
        kind = "single" if devices.pacemaker_leads == 1 else "dual"
        out.append(f"A {devices.pacemaker_side} pectoral {kind}-lead pacemaker is present.")
    return [sentence[0].upper() + sentence[1:] for sentence in out]


def _lungs(rng: np.random.Generator, findings: Findings) -> list[str]:
    out = []
    for patch in findings.consolidation:
        word = _pick(
            rng,
            (
                "consolidation",
                "airspace consolidation",
                "dense consolidation" if patch.density > 0.6 else "patchy consolidation",
            ),
        )
        out.append(f"There is {word} in the {patch.side} {_zone(patch.centre)} zone.")
    for nodule in findings.nodule:
        size, zone = round(20 * nodule.radius), _zone(nodule.centre)
        out.append(f"A {size} mm nodule projects over the {nodule.side} {zone} zone.")
    if not findings.consolidation and not findings.nodule:
        out.append(
            _pick(
                rng,
                (
                    "The lungs are clear.",
                    "Lungs are clear without focal consolidation.",
                    "No focal consolidation or nodule.",
                ),
            )
        )
    elif not findings.consolidation:
        out.append("No focal consolidation.")
    return out


def _pleura(rng: np.random.Generator, findings: Findings) -> list[str]:
    out = []
    if len(findings.effusion) == 2:
        size = _grade(max(e.amount for e in findings.effusion), (0.3, 0.62))
        out.append(f"There are {size} bilateral pleural effusions.")
    elif findings.effusion:
        effusion = findings.effusion[0]
        layering = "layering " if effusion.layered else ""
        out.append(f"There is a {_grade(effusion.amount, (0.3, 0.62))} {layering}{effusion.side} pleural effusion.")
    for air in findings.pneumothorax:
        out.append(_pneumothorax(air))
    if not findings.effusion and not findings.pneumothorax:
        out.append(_pick(rng, ("No pleural effusion or pneumothorax.", "There is no effusion or pneumothorax.")))
    elif not findings.pneumothorax:
        out.append("No pneumothorax.")
    elif not findings.effusion:
        out.append("No pleural effusion.")
    return out


def _pneumothorax(air: Pneumothorax) -> str:
    text = f"There is a {_grade(air.gap, (1.5, 3.0))} {air.side} pneumothorax"
    return text + (" with mediastinal shift to the other side." if air.tension else ".")


def _heart(rng: np.random.Generator, findings: Findings) -> str:
    if findings.cardiomegaly:
        grade = _grade(findings.heart_ratio, (0.56, 0.61), ("mildly", "moderately", "severely"))
        return _pick(
            rng,
            (
                "The heart is {} enlarged.",
                "The cardiac silhouette is {} enlarged, in keeping with cardiomegaly.",
            ),
        ).format(grade)
    return _pick(
        rng,
        (
            "Heart size is normal.",
            "The cardiomediastinal silhouette is within normal limits.",
            "No cardiomegaly.",
        ),
    )


def _bones(rng: np.random.Generator, findings: Findings) -> list[str]:
    breaks = findings.rib_fracture
    if not breaks:
        return ["No rib fracture."] if rng.random() < 0.3 else []
    old = "healing" if breaks[0].callus else "displaced"
    numbers = sorted({b.rib for b in breaks})
    if len(numbers) == 1:
        return [f"There is a {old} fracture of the {breaks[0].side} rib {numbers[0]}."]
    return [f"There are {old} fractures of the {breaks[0].side} ribs {numbers[0]} to {numbers[-1]}."]
