"""The chest's inside along the rays: air of a lung, what bounds it, and what findings put in its place."""

from dataclasses import dataclass, field

import numpy as np

from raddino.sample.anatomy import Anatomy, sign
from raddino.sample.findings import Findings, fluid_share, lesions
from raddino.sample.projection import Array, Camera, Interval
from raddino.sample.skeleton import vertebrae
from raddino.sample.vessels import Keep, lung_vessels

MUSCLE, LUNG = 0.205, 0.047
"""Effective attenuation of soft tissue and of aerated lung, 1/cm, in a filtered diagnostic beam."""


@dataclass
class Masks:
    """Named silhouettes in an image, bool (size, size), gathered part by part."""

    size: int
    found: dict[str, Array] = field(default_factory=dict)

    def add(self, name: str, part: Array, camera: Camera) -> None:
        """Unite the mask of that name with a part that fills the camera's window."""
        whole = self.found.setdefault(name, np.zeros((self.size, self.size), bool))
        whole[camera.window or ...] |= part


class Side:
    """One half of the chest, computed in the window of the image that shows it."""

    def __init__(self, body: Anatomy, side: str, camera: Camera) -> None:
        edges = sorted((-2.0 * sign(side), sign(side) * (body.width + 1)))
        deep = 1.3 * body.depth
        view = camera.on((edges[0], -1.0, -deep), (edges[1], body.lung + 1.0, deep))
        self.body, self.side, self.view = body, side, view
        self.heart = Interval.hull([solid.interval(view) for solid in body.heart()])
        great = [solid.interval(view) for solid in body.great_vessels()]
        self.middle = Interval.hull([body.mediastinum().interval(view), self.heart, *great])
        self.back = [body.descending_aorta().interval(view), vertebrae(body).interval(view)]
        self.dome = body.dome(side).interval(view)
        self.pleura = body.pleura(side).interval(view)

    @property
    def field(self) -> Array:
        """The lung field: the pleural space's silhouette above the diaphragm, behind the heart too."""
        return (self.pleura.length > 1.0) & ~self.dome.inside

    def air(self, space: Interval) -> Array:
        """Length of each ray in ``space`` that no organ takes, cm."""
        beside = space & self.middle
        length = space.length - beside.length - (space & self.dome).length + (beside & self.dome).length
        for organ in self.back:
            length -= (space & organ).length - (beside & organ).length
        return np.maximum(length, 0)

    def attenuation(self, findings: Findings, texture: Array, masks: Masks) -> Array:
        """Change (H, W) against a chest full of soft tissue; adds the masks of this side's findings."""
        body, side, view = self.body, self.side, self.view
        texture = texture[view.window or ...]
        space = aerated = self.air(self.pleura)
        lung, shrink, slip = self.pleura, 0.0, 0.0
        change = -MUSCLE * space
        for collapse in (p for p in findings.pneumothorax if p.side == side):
            shrink, slip = collapse.gap, collapse.slip
            lung = self.pleura & body.pleura(side, shrink, slip).interval(view)
            aerated = np.minimum(self.air(lung), space)
            skin = lung.length - (lung & body.pleura(side, shrink + 0.1, slip + 0.1).interval(view)).length
            change += 0.11 * np.clip(skin, 0, 1.6)
            masks.add("pneumothorax", self.field & ~lung.inside, view)
        for name, soft in lesions(body, findings, side, view, lung, texture).items():
            soft = np.minimum(soft, aerated)
            masks.add(name, soft > (0.25 if name == "consolidation" else 0.05), view)
            change += (MUSCLE - LUNG) * soft
        wet = np.zeros_like(space)
        for effusion in (e for e in findings.effusion if e.side == side):
            wet = fluid_share(body, view, effusion)
            masks.add("effusion", space * wet > 0.5, view)
        vessels = lung_vessels(body, view, side, _shown(lung, aerated, view), shrink, slip).image(view)
        density = LUNG * (1 + 0.12 * shrink) * (1 + 0.05 * texture)
        tissue = density * aerated + (MUSCLE - LUNG) * 1.15 * np.minimum(vessels, 0.6 * aerated)
        return change + MUSCLE * space * wet + (1 - wet) * tissue


def _shown(lung: Interval, aerated: Array, view: Camera) -> Keep:
    """Share of points that show: 1 in aerated lung, else 0."""
    rows, columns = view.window or (slice(0, view.size), slice(0, view.size))

    def keep(column: Array, row: Array, depth: Array) -> Array:
        x = np.clip(column - columns.start, 0, aerated.shape[1] - 1).astype(np.int32)
        y = np.clip(row - rows.start, 0, aerated.shape[0] - 1).astype(np.int32)
        return (aerated[y, x] > 0.3) & (depth > lung.low[y, x]) & (depth < lung.high[y, x])

    return keep


def zones(fields: dict[str, Array]) -> Array:
    """Thirds of each lung field's height, uint8: 1-3 image-left from the top, 4-6 image-right, 0 outside."""
    out = np.zeros(fields["right"].shape, np.uint8)
    for first, side in ((1, "right"), (4, "left")):
        rows = np.flatnonzero(fields[side].any(axis=1))
        if rows.size:
            third = np.clip((np.arange(len(out)) - rows[0]) * 3 // (rows[-1] + 1 - rows[0]), 0, 2) + first
            np.copyto(out, third[:, None].astype(np.uint8), where=fields[side])
    return out
