"""What surrounds the chest: trunk, shoulders, arms and breasts; and the air in windpipe and bowel."""

import numpy as np
from scipy.interpolate import PchipInterpolator

from raddino.sample.anatomy import SIDES, Anatomy, sign
from raddino.sample.projection import Array, Camera, Ellipsoid, Points, Profile, Stack, resample, tube


def _skin(body: Anatomy) -> PchipInterpolator:
    """Half width and half depth (2,) of the trunk by height, cm."""
    p, fat = body.patient, body.fat
    w = body.width + 2.4 + 0.7 * p.male + fat
    neck = (6.1 if p.male else 5.2) + 0.06 * (p.bmi - 25)
    belly = w + 0.05 * (p.bmi - 24)
    front = body.depth + 2.2 + 0.8 * fat
    paunch = front + 0.22 * (p.bmi - 23)
    lift = 1.4 * (body.quirks[8] - 0.5) - (1.0 if body.supine else 0.0)
    rows = [
        (-30.0, 1.5 * neck, 1.5 * neck),
        (-9.0 + lift, neck, neck),
        (-6.0 + lift, 1.06 * neck, neck),
        (-4.2 + lift, 1.35 * neck, 1.05 * neck),
        (-2.4 + lift, 0.72 * w, 0.64 * front),
        (-0.6 + lift, 0.92 * w, 0.74 * front),
        (1.5 + lift, 1.03 * w, 0.84 * front),
        (4.0 + lift, 1.07 * w, 0.92 * front),
        (7.5, 1.05 * w, 0.97 * front),
        (11.0, w, front),
        (15.0, 0.985 * w, front),
        (21.0, w, 1.02 * front),
        (28.0, belly, paunch),
        (45.0, 1.03 * belly, 1.05 * paunch),
    ]
    table = np.array(rows)
    return PchipInterpolator(table[:, 0] * body.size, table[:, 1:])


def trunk(body: Anatomy, skins: tuple[float, ...] = (0.0,)) -> list[Stack]:
    """Neck, shoulders, chest and abdomen, as solids that many cm below the surface."""
    skin = _skin(body)

    def under(deep: float) -> Stack:
        def profile(y: Array) -> tuple[Array, Array, Array, Array]:
            a, b = skin(np.clip(y, -29 * body.size, 44 * body.size)).T
            return np.zeros_like(y), a - deep, 0.5 * body.forward(y), b - deep

        return Stack(profile, squareness=0.55)

    return [under(deep) for deep in skins]


def limbs(body: Anatomy, skin: float, view: str = "PA") -> list[Ellipsoid]:
    """Upper arms and shoulders, ``skin`` cm below the surface; arms are raised forward in a lateral view.

    The first is the left upper arm.
    """
    p, q = body.patient, body.quirks
    girth = (5.4 if p.male else 4.6) + 0.35 * body.fat - skin
    y = 4.2 * body.size + 1.0 * (q[8] - 0.5)
    if view == "LATERAL":
        c, n = np.cos(0.5 + 0.3 * q[9]), np.sin(0.5 + 0.3 * q[9])
        raised = np.array([[1.0, 0.0, 0.0], [0.0, c, n], [0.0, -n, c]])
        x = 0.9 * body.width
        return [Ellipsoid((s * x, y - 11 * c, 11 * n), (girth, 17.0, girth), raised) for s in (1, -1)]
    spread = (0.12 if body.supine else 0.30) + 0.18 * q[9]
    c, n = np.cos(spread), np.sin(spread)
    x = body.width + 5.2 + 0.8 * p.male + 0.5 * body.fat
    solids = []
    for s in (1, -1):
        tilt = np.array([[c, s * n, 0.0], [-s * n, c, 0.0], [0.0, 0.0, 1.0]])
        solids.append(Ellipsoid((s * (x + 13 * n), y + 13 * c, 0.0), (0.98 * girth, 21.0, girth), tilt))
        solids.append(Ellipsoid((s * (x - 0.6), y + 0.4, 0.0), (1.12 * girth, 1.35 * girth, 1.1 * girth)))
    return solids


def breasts(body: Anatomy) -> list[Stack]:
    """Breasts of women, pectoral muscles of men: solids that lie half in the front of the trunk."""
    p, q = body.patient, body.quirks
    stout = 0.045 * (p.bmi - 24)
    if p.male:
        volume, reach = float(np.clip(0.35 + 0.15 * p.breast + 1.3 * stout, 0.15, 1.6)), 5.6
        low = 0.45 * body.lung
    else:
        volume, reach = float(np.clip(0.65 + 0.4 * p.breast + stout, 0.03, 2.4)), 6.6
        low = body.lung * (0.60 + 0.14 * p.ageing + 0.10 * q[10] + 0.03 * volume - 0.1 * body.supine)
    solids, chest = [], trunk(body)[0].profile
    for side in SIDES:
        uneven = 0.95 + 0.1 * q[11 if side == "left" else 12]
        radius = reach * volume ** (1 / 3) * uneven
        x = sign(side) * (0.60 * body.width + 0.12 * radius * (1 + body.supine))
        solids.append(_mound(body, chest, x, low * uneven, radius, volume * uneven))
    return solids


def _mound(body: Anatomy, chest: Profile, x: float, y: float, radius: float, volume: float) -> Stack:
    below = radius * (0.7 if body.patient.male else 0.5)
    thick = (2.6 if body.patient.male else 4.2) * volume ** (1 / 3)

    def profile(at: Array) -> tuple[Array, Array, Array, Array]:
        t = np.where(at < y, (y - at) / (radius * 1.35), (at - y) / below)
        round_ = np.sqrt(np.clip(1 - t**2, 0, 1))
        _, width, middle, depth = chest(at)
        skin = middle + depth * np.sqrt(np.maximum(0.1, 1 - (x / np.maximum(width, 1)) ** 2)) - 0.8
        reach = thick * np.where(at < y, round_**1.7, np.sqrt(round_))
        return np.full_like(at, x), radius * round_, skin, reach

    return Stack(profile, anchor=(x, body.depth))


def airway(body: Anatomy, camera: Camera) -> Points:
    """Trachea and main bronchi as air."""
    p, q = body.patient, body.quirks
    radius = (1.0 if p.male else 0.84) * body.size
    end, step = body.carina(), camera.pitch
    bow = 0.5 * (q[13] - 0.3) - 0.5 * p.ageing
    inlet = [0.4 * bow + 0.5 * body.shift, 0, end[2] + 0.8]
    middle = [bow + end[0], end[1] * 0.6, end[2] + 0.3]
    path = resample(np.array([[0.0, -16, 1.5], [0.0, -8, 0.5], inlet, middle, end]), step)
    below = np.arange(len(path))[::-1] * step
    parts = [tube(path, radius, camera, density=np.clip(below / 1.2, 0, 1))]
    for side, drop, length in (("right", 1.0, 4.2), ("left", 0.62, 5.2)):
        way = length * np.array([sign(side) * np.cos(drop), np.sin(drop), -0.12])
        path = resample(np.stack([end - [0, 0.9, 0], end + 0.4 * way, end + way]), step)
        along = np.arange(len(path)) * step
        fade = np.clip(along / 1.2, 0, 1) * np.clip((along[-1] - along) / 2.5, 0, 1)
        parts.append(tube(path, np.linspace(0.8, 0.6, len(path)) * radius, camera, density=fade))
    return Points.join(parts)


def bowel_gas(body: Anatomy) -> list[Ellipsoid]:
    """The stomach's bubble and gas in the bend of the colon, where there is any."""
    q, w = body.quirks, body.width
    bubbles = []
    if q[14] < 0.75:
        axes = (1.6 + 2.2 * q[15], 0.7 + 1.3 * q[16], 1.2 + 1.6 * q[18])
        centre = (w * (0.30 + 0.18 * q[17]), body.dome_top("left") + 1.3 + axes[1], 0.5)
        bubbles.append(Ellipsoid(centre, axes))
    for u, v, r in q[20 : 20 + 3 * int(q[19] * 4)].reshape(-1, 3):
        centre = (w * (0.45 + 0.4 * u), body.lung + 2.0 + 3.5 * v, 0.0)
        bubbles.append(Ellipsoid(centre, (0.8 + 1.2 * r, 0.7 + 0.8 * v, 1.3)))
    return bubbles
