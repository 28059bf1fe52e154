import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from raddino.errors import RaddinoError
from raddino.files import sha256, write_json
from raddino.report.overlays import outline, overlays
from raddino.tasks.base import TaskConfig
from raddino.tasks.segmentation.shown import read_shown

from .fabricated import MaskedCorpus, write_models

TASK = TaskConfig(
    name="lungs", target="mask_lungs", kind="segmentation", options={"classes": {"left lung": 1, "right lung": 2}}
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_models(tmp_path, MaskedCorpus())
    return tmp_path / "models" / "lungs" / "trained"


def polygons(path: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, point.split())) for point in part.rstrip("Z").split("L")] for part in path.split("M") if part
    ]  # type: ignore[misc]


def test_an_outline_filled_again_is_the_mask() -> None:
    bits = MaskedCorpus().bits(3)
    for code in (0, 1):
        drawn = Image.new("L", (bits.shape[1] * 8, bits.shape[0] * 8))
        for points in polygons(outline(bits, code)):
            ImageDraw.Draw(drawn).polygon([(8 * x, 8 * y) for x, y in points], fill=1)
        centres = np.asarray(drawn)[4::8, 4::8]
        assert (centres != (bits >> code & 1)).mean() < 0.005


def test_outlines_close_at_the_border_and_leave_ignored_pixels_out() -> None:
    full = np.ones((5, 7), np.int32)
    (points,) = polygons(outline(full, 0))
    assert points[0] == points[-1]
    assert {x for x, _ in points} == {0.0, 7.0} or max(x for x, _ in points) == 7.0
    assert outline(np.full((5, 7), 1 << 30, np.int32), 0) == ""
    assert outline(full, 1) == ""


def test_cases_come_best_first_with_both_outlines(model: Path) -> None:
    found = overlays(model, MaskedCorpus(), TASK)
    assert [one.place for one in found] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
    assert found[0].caption.startswith("Dice 0.900, PA")
    for one in found:
        assert (one.width, one.height) == (116, 96)
        assert one.image.startswith("data:image/jpeg")
        hues, true, predicted = zip(*one.outlines, strict=True)
        assert len(set(hues)) == 2
        assert [len(polygons(path)) for path in true] == [1, 1]
        assert true != predicted
        assert not re.search(r"secret|person", one.caption)


def test_credentialed_images_are_never_drawn(model: Path) -> None:
    assert overlays(model, MaskedCorpus(source="mimic-cxr"), TASK) == []


def test_a_model_without_cases_has_none(tmp_path: Path) -> None:
    assert overlays(tmp_path, MaskedCorpus(), TASK) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"row": 7000}, "lacks"), ({"row": 0}, "lacks"), ({"place": "odd"}, "damaged"), ({"row": "1"}, "damaged"),
        ({"file": "../secret.png"}, "damaged"), ({"file": "none.png"}, "missing or damaged"),
    ],
)  # fmt: skip
def test_damaged_lists_are_refused(model: Path, change: dict, words: str) -> None:
    file = model / "shown" / "shown.json"
    cases = json.loads(file.read_text(encoding="utf-8"))["cases"]
    file.write_text(json.dumps({"cases": [cases[0] | change]}), encoding="utf-8")
    with pytest.raises(RaddinoError, match=words):
        overlays(model, MaskedCorpus(), TASK)


def test_a_prediction_of_another_size_is_refused(model: Path) -> None:
    Image.new("RGB", (5, 6)).save(model / "shown" / "best-0.png")
    with pytest.raises(RaddinoError, match="missing or damaged"):  # not the picture that the list describes
        overlays(model, MaskedCorpus(), TASK)
    cases = [{**case, "sha256": sha256(model / "shown" / case["file"])} for case in read_shown(model)]
    write_json(model / "shown" / "shown.json", {"cases": cases})
    with pytest.raises(RaddinoError, match="5 x 6 pixels, its image's 116 x 96"):
        overlays(model, MaskedCorpus(), TASK)
