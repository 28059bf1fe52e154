"""What is refused or said around an evaluation, by hand."""

from types import SimpleNamespace

import pandas as pd
import pytest

from raddino.benchmark.checks import check_images, misfit, some, without_differences
from raddino.errors import RaddinoError


def manifest(**columns):
    sound = {"id": list("abcd"), "split": ["train", "val", "test", "test"], "sha256": ["1", "2", "3", None]}
    return pd.DataFrame(sound | columns)


def test_sound_images_pass():
    check_images(manifest())
    check_images(manifest().drop(columns="sha256"))
    check_images(manifest(sha256=["1", "2", "3", "3"]))
    check_images(manifest(split=["train", "val", "other", "test"], sha256=["1", "2", "3", "3"]))
    check_images(manifest(sha256=[None, None, None, None]))


def test_an_id_of_two_images_is_refused_with_digests_or_without():
    twice = manifest(id=["b", "a", "b", "b"])
    for table in (twice, twice.drop(columns="sha256")):
        with pytest.raises(RaddinoError, match=r"^1 id stands for several images: b; prepare the corpus again"):
            check_images(table)


def test_pixels_in_two_splits_are_refused_by_the_ids_of_all_copies():
    with pytest.raises(RaddinoError, match=r"^2 images have pixels that stand in two splits: a, c; .* one patient$"):
        check_images(manifest(sha256=["1", "2", "1", None]))


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, ""), (1, "0"), (5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4 and 1 more"), (9, "0, 1, 2, 3, 4 and 4 more")],
)
def test_the_first_few_of_many(number, said):
    assert some([str(n) for n in range(number)]) == said


@pytest.mark.parametrize(
    ("encoder", "probe", "said"),
    [
        ({}, ("linear", "cls"), ""), ({}, ("linear", "both"), "let the probe read features: cls"),
        ({}, ("attentive", "patches"), "use another probe"), ({"grid": (4, 4)}, ("attentive", "patches"), ""),
        ({}, ("linear", "grid"), "let the probe read features: cls"), ({"laid_out": True}, ("linear", "grid"), ""),
        ({"laid_out": True}, ("linear", "both"), "no patch features"), ({"grid": (4, 4)}, ("knn", "grid"), ""),
        ({"supervised": True}, ("linear", "cls"), "trained on masks"), ({"supervised": False}, ("knn", "cls"), ""),
        ({}, ("zero_shot", "cls"), "no text encoder"), ({"encode_text": len}, ("zero_shot", "cls"), ""),
    ],
)  # fmt: skip
def test_a_probe_that_cannot_read_an_encoder(encoder, probe, said):
    kind, features = probe
    encoder = SimpleNamespace(**{"name": "toy", "grid": None} | encoder)
    reason = misfit(encoder, SimpleNamespace(kind=kind, features=features))
    assert (said in reason) if said else reason == ""
    assert reason == "" or "toy" in reason


def rows(**encoders):
    return [{"task": task, "encoder": name} for name, tasks in encoders.items() for task in tasks]


def test_missing_differences_are_explained():
    assert without_differences(rows(a="xy", b="xy"), ["a", "b"], ["a", "b"]) == []
    assert without_differences(rows(b="xy"), ["b"], ["a", "b"]) == []
    assert without_differences(rows(b="xy", c="xy"), ["b", "c"], ["a", "b", "c"]) == [
        "a has no value at all, so all differences are to b"
    ]
    assert without_differences(rows(a="x", b="xyz"), ["a", "b"], ["a", "b"]) == [
        "none on y, z: a, to which they are taken, has no value there"
    ]
