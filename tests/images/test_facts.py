"""Words of hospitals and data sets, to one form."""

import pytest

from raddino.images.facts import parse_age, parse_sex, parse_view, plausible


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("081Y", 81), ("011M", 11 / 12), ("4W", 28 / 365.25), ("021D", 21 / 365.25), ("62", 62), (36.0, 36),
        (" 7 y ", 7), ("000Y", 0), ("121Y", None), ("", None), (None, None), ("1940-03-05", None),
        ("old", None), ("-3", None), (float("nan"), None),
    ],
)  # fmt: skip
def test_age(text, years):
    assert parse_age(text) == (None if years is None else pytest.approx(years, abs=1e-4))


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("PA", "PA"), ("ap", "AP"), ("AP Supine", "AP"), ("LL", "LATERAL"), ("Lateral", "LATERAL"),
        ("RAO", "OBLIQUE"), ("postero-anterior", "PA"), ("frontal", "FRONTAL"), ("?", None), ("", None),
        (None, None), ("PARTIAL", None),
        ("a.p.", "AP"), ("A.P.", "AP"), ("A-P", "AP"), ("a/p", "AP"), ("p.a.", "PA"), ("p.-a.", "PA"), ("P A", "PA"),
        ("AP_horizontal", "AP"), ("thorax a.p. liegend", "AP"), ("chest, PA, erect", "PA"), ("map", None),
        ("SPA", None),
        ("LLD", "FRONTAL"), ("RLD", "FRONTAL"), ("left lateral decubitus", "FRONTAL"), ("R lat decub", "FRONTAL"),
        ("Lateral decubitus AP", "AP"), ("LLD PA", "PA"), ("decúbito lateral izquierdo", "FRONTAL"),
        ("RLDEC", "FRONTAL"),
        ("décubitus latéral gauche", "FRONTAL"), ("Linksseitenlage a.p.", "AP"),
        ("dorsal decubitus lateral", "LATERAL"),
        ("ventral decubitus", None), ("decubito supino AP", "AP"), ("RL", "LATERAL"), ("LLO", "OBLIQUE"),
        ("left lateral oblique", "OBLIQUE"), ("RPO", "OBLIQUE"), ("oblicua", "OBLIQUE"), ("schräg", "OBLIQUE"),
        ("lateral izquierda", "LATERAL"), ("perfil", "LATERAL"), ("profil gauche", "LATERAL"), ("seitlich", "LATERAL"),
        ("latero-laterale", "LATERAL"), ("Póstero-anterior", "PA"), ("ântero-posterior", "AP"),
        ("posteroanterior", "PA"),
        ("antero-posteriore", "AP"), ("postéro-antérieur", "PA"), ("anteroposterior", "AP"), ("dorso-ventral", "PA"),
        ("ventrodorsal", "AP"), ("thorax de face", "FRONTAL"), ("frontale", "FRONTAL"), ("surface", None),
    ],
)  # fmt: skip
def test_view(text, view):
    assert parse_view(text) == view


def test_sex():
    assert [parse_sex(word) for word in ("M", "female", "f ", "O", "", None)] == [
        "M",
        "F",
        "F",
        None,
        None,
        None,
    ]


def test_plausible():
    values = (70, "70.5", 5000, "nan", "heavy", None)
    assert [plausible(value, 0, 400) for value in values] == [70, 70.5, None, None, None, None]
