"""The shipped head on drawn radiographs that were moved, and what is judged from it."""

import numpy as np
import pandas as pd
import pytest
import torch

from raddino.inspection.geometry import Geometry, sure_move
from raddino.inspection.moves import MOVES, VIEWS, Move
from raddino.inspection.upright import Head, features, look
from raddino.sample.scene import render
from raddino.sample.studies import draw_scene


@pytest.fixture(scope="module")
def lateral() -> list[np.ndarray]:
    scenes = (draw_scene(3, index, 160) for index in range(80))
    return [(render(one.scene).image * 255).astype(np.uint8) for one in scenes if one.scene.view == "LATERAL"][:4]


def measured(moves=(0,), weights=(1.0,), views=(0.5, 0.5, 0.0, 0.0), tilt=0.0) -> dict:
    told = np.zeros(16)
    told[list(moves)] = weights
    return {"moves": told.tolist(), "views": list(views), "tilt": tilt}


def reasons(*told: dict, **columns) -> list[list[str]]:
    found = [[] for _ in told]
    for one in Geometry().judge(pd.DataFrame(columns, index=range(len(told))), pd.DataFrame(told)):
        found[one.row].append(one.reason)
    return found


@pytest.mark.parametrize("move", MOVES)
def test_turning_the_picture_turns_the_answer(drawn, move):
    """By construction: the probability of a move of an upright picture is that of being upright of the moved one."""
    stored, moved = look(drawn[:1]).moves[0], look([np.ascontiguousarray(move.apply(drawn[0]))]).moves[0]
    assert moved[MOVES.index(move)] == pytest.approx(stored[0], abs=0.01)


def test_drawn_radiographs_are_found_as_they_were_moved(drawn):
    for quarters in range(4):
        for inverted in (False, True):
            move = Move(quarters=quarters, inverted=inverted)
            told = Geometry().measure([np.ascontiguousarray(move.apply(image)) for image in drawn])
            assert [sure_move(one)[0] for one in told] == [move] * len(drawn)


def test_drawn_laterals_and_noise_are_no_frontal_chests(drawn, lateral):
    noise = np.random.default_rng(0).integers(0, 256, (160, 160), dtype=np.uint8)
    views = look([*drawn, *lateral, noise]).views.argmax(1)
    assert (views[: len(drawn)] <= 1).all()
    assert (views[len(drawn) : -1] == VIEWS.index("LATERAL")).all()
    assert views[-1] == VIEWS.index("OTHER")


def test_16_bits_say_what_8_say(drawn):
    wide = [image.astype(np.uint16) * 257 for image in drawn[:2]]
    assert np.allclose(look(wide).moves, look(drawn[:2]).moves, atol=0.02)


def test_each_picture_is_measured_by_itself(drawn):
    alone = Geometry().measure(drawn[1:2])
    assert Geometry().measure(drawn[:3])[1]["moves"] == pytest.approx(alone[0]["moves"], abs=2e-4)


def test_a_head_is_saved_and_loaded(tmp_path, drawn):
    torch.manual_seed(0)
    head = Head(3264, hidden=8).eval()
    head.mean += 1
    head.save(tmp_path / "head.safetensors")
    told = features(drawn[:1])
    assert np.array_equal(Head.load(tmp_path / "head.safetensors").look(told).moves, head.look(told).moves)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turns_are_named_whether_mirrored_or_not(quarters):
    turned = [MOVES.index(Move(quarters=quarters, mirrored=mirrored)) for mirrored in (False, True)]
    assert reasons(measured(turned, (0.5, 0.49))) == [[f"turned-{90 * quarters}"]]
    assert reasons(measured(turned, (0.5, 0.29))) == [[]]


def test_what_header_and_picture_say_are_both_told():
    turned, note = measured([MOVES.index(Move(quarters=1))]), "stored turned or mirrored: PatientOrientation is FL"
    assert reasons(turned, measured(), measured(), warnings=[note, note, None]) == [
        ["turned-90", "header-turned"], ["header-turned"], []
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("view", "views", "expected"),
    [
        ("PA", (0.0, 0.0, 1.0, 0.0), ["view-contradicted"]), (None, (0.0, 0.0, 1.0, 0.0), ["lateral"]),
        ("LATERAL", (0.0, 0.0, 1.0, 0.0), []), ("LATERAL", (0.6, 0.4, 0.0, 0.0), ["view-contradicted"]),
        ("PA", (0.0, 0.99, 0.01, 0.0), []), ("AP", (0.99, 0.01, 0.0, 0.0), []),
        ("FRONTAL", (0.99, 0.01, 0.0, 0.0), []), ("PA", (0.6, 0.4, 0.0, 0.0), []),
        ("OBLIQUE", (0.5, 0.5, 0.0, 0.0), []), (None, (0.0, 0.0, 0.0, 1.0), ["not-a-chest"]),
    ],
)  # fmt: skip
def test_views(view, views, expected):
    assert reasons(measured(views=views), view=[view]) == [expected]


def test_of_what_is_no_chest_nothing_else_is_said():
    upside = [MOVES.index(Move(quarters=2, inverted=True))]
    assert reasons(measured(upside, views=(0, 0, 0, 1.0), tilt=40)) == [["not-a-chest"]]


def test_tilt_and_mirror():
    assert reasons(measured(tilt=11.0), measured(tilt=-9.0)) == [["tilted"], []]
    assert reasons(measured([MOVES.index(Move(mirrored=True))])) == [["mirrored"]]


def test_what_is_not_sure_or_only_mirrored_is_left_as_it_is():
    turned, mirrored = MOVES.index(Move(quarters=1)), MOVES.index(Move(mirrored=True))
    assert sure_move(measured([turned, 0], (0.79, 0.21)))[0] == MOVES[0]
    assert sure_move(measured([mirrored]))[0] == MOVES[0]
    assert sure_move(measured([turned], views=(0, 0, 0, 1.0)))[0] == MOVES[0]
    assert sure_move(measured([turned], (0.97,))) == (Move(quarters=1), pytest.approx(0.97))
