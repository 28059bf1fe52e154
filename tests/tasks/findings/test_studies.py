"""Which image stands for a study."""

import itertools

import numpy as np
import pandas as pd
import pytest

from raddino.tasks.findings.studies import FURTHER, REPEATED, one_a_study


def kept(rows: list[dict]) -> tuple[list[str], dict[str, int]]:
    frame = pd.DataFrame(rows)
    chosen, counts = one_a_study(frame, frame["text"].tolist())
    return frame["id"][chosen].tolist(), counts


def image(name: str, **values: object) -> dict:
    return {"id": name, "patient": "p", "study": "s", "view": "PA", "text": "Clear."} | values


@pytest.mark.parametrize("order", list(itertools.permutations(range(5))))
def test_pa_before_ap_before_others_before_lateral_then_the_first_id(order: tuple[int, ...]) -> None:
    rows = [
        image("a", view="LATERAL"),
        image("b", view=None),
        image("c", view="AP"),
        image("e", view="PA"),
        image("d", view="PA"),
    ]
    while rows:
        found, counts = kept([rows[at] for at in order if at < len(rows)])
        best = min(rows, key=lambda row: (["PA", "AP", None, "LATERAL"].index(row["view"]), row["id"]))
        assert found == [best["id"]]
        assert counts == {FURTHER: len(rows) - 1, REPEATED: 0}
        rows.remove(best)


def test_a_study_is_a_patient_s_own_whatever_its_text() -> None:
    rows = [image("a"), image("b", text="Effusion."), image("c", patient="q"), image("d", study="t")]
    assert kept(rows) == (["a", "c", "d"], {FURTHER: 1, REPEATED: 0})


def test_without_a_study_one_patient_and_one_text_are_one() -> None:
    rows = [
        image("a", study=None),
        image("b", study=None),
        image("c", study=None, text="Effusion."),
        image("d", study=None, patient="q"),
        image("e", study=None, patient=None),
        image("f", study=None, patient=None),
        image("g"),
    ]
    assert kept(rows) == (["a", "c", "d", "e", "f", "g"], {FURTHER: 0, REPEATED: 1})


def test_a_manifest_without_the_columns() -> None:
    frame = pd.DataFrame({"id": ["b", "a", "c"], "patient": ["p", "p", "q"]})
    chosen, counts = one_a_study(frame, ["Clear.", "Clear.", "Clear."])
    np.testing.assert_array_equal(chosen, [False, True, True])
    assert counts == {FURTHER: 0, REPEATED: 1}
    assert one_a_study(frame[:0], [])[0].shape == (0,)
