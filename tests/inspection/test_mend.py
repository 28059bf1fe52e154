"""What ``prepare`` puts right or sets aside on the way, and how it is recorded."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from burned_text import chestlike
from burned_text import drawn as burned
from packed_corpus import KEY, pack
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.errors import ConfigError
from raddino.inspection import mend as mending
from raddino.inspection.geometry import SURE
from raddino.inspection.mend import SET_ASIDE, Mending
from raddino.inspection.moves import Move
from raddino.inspection.text import find_text


def prepared(folder, images, mend, **columns) -> Corpus:
    pack(folder, images, **columns)
    return prepare(folder / "files.csv", folder / "mended", key=KEY, workers=1, shorter_side=400, mend=mend)


def test_prepare_puts_right_what_is_sure_and_records_it(drawn, tmp_path):
    from PIL import Image

    moved = [np.ascontiguousarray(Move(quarters=n % 4, inverted=n == 4).apply(image)) for n, image in enumerate(drawn)]
    (tmp_path / "masks").mkdir()
    for n, image in enumerate(moved):
        mask = np.zeros_like(image)
        mask[:40, :] = 255
        Image.fromarray(mask).save(tmp_path / f"masks/{n}.png")
    masks = [str(tmp_path / f"masks/{n}.png") for n in range(len(moved))]
    corpus = prepared(tmp_path / "a", moved, Mending(("geometry",)), mask_lungs=masks)
    for n in range(len(moved)):
        assert np.array_equal(corpus.read(n), drawn[n])
        mask = corpus.read_mask(n, "lungs")
        assert np.array_equal(mask, Move(quarters=n % 4).unplace(np.asarray(Image.open(masks[n]))))
    told = corpus.manifest["mended"]
    assert [cell is not None for cell in told] == [n % 4 != 0 or n == 4 for n in range(len(moved))]
    words, sure = told[1].removesuffix(" sure").rsplit(", ", 1)
    assert words == "the picture was turned 90 degrees clockwise and was put right"
    assert SURE["turned"] <= float(sure) <= 1
    assert corpus.info["warnings"]["the picture was turned 90 degrees clockwise and was put right"] == 2
    assert corpus.info["preparation"]["mended"]["sure"]["turned"] == SURE["turned"]


def test_a_corpus_of_upright_pictures_is_the_one_without_mending(drawn, tmp_path):
    plain, mended = (
        prepared(tmp_path / name, drawn, mend) for name, mend in (("a", None), ("b", Mending(("geometry",))))
    )
    assert plain.fingerprint == mended.fingerprint
    assert json.dumps(plain.info["warnings"]) == json.dumps(mended.info["warnings"])


@pytest.fixture
def named() -> list[np.ndarray]:
    """A picture without text, and one with a name, both from 0 to 255."""
    plain = chestlike()
    return [full_range(plain), full_range(burned(plain, "DOE JANE 19.03.1961", (20, 60))[0])]


def full_range(image: np.ndarray) -> np.ndarray:
    image = image.astype(float)
    return np.rint((image - image.min()) / np.ptp(image) * 255).astype(np.uint8)


def identifiers(image: np.ndarray) -> int:
    return sum(region.kind == "identifier" for region in find_text(image))


def test_text_is_blanked_and_recorded(named, tmp_path):
    corpus = prepared(tmp_path / "a", named, Mending(text="blank"))
    assert identifiers(named[1])
    assert np.array_equal(corpus.read(0), named[0])
    assert not identifiers(corpus.read(1))
    assert corpus.manifest["mended"][0] is None
    assert corpus.manifest["mended"][1].startswith("text was blanked in ")
    assert corpus.info["warnings"] == {"text was blanked": 1}
    assert corpus.info["preparation"]["mended"]["text"] == "blank"


def test_pictures_with_text_are_set_aside_with_their_reason(named, tmp_path):
    corpus = prepared(tmp_path / "a", named, Mending(text="quarantine"))
    assert len(corpus) == 1
    assert corpus.info["skipped"] == {SET_ASIDE: 1}
    skipped = pd.read_csv(corpus.path / "skipped.csv")
    assert skipped["reason"].tolist() == [SET_ASIDE]
    assert "DOE" not in (corpus.path / "skipped.csv").read_text(encoding="utf-8")


def test_what_is_kept_is_not_looked_at(named, tmp_path, monkeypatch):
    monkeypatch.setattr(mending, "apply_policy", SimpleNamespace())
    corpus = prepared(tmp_path / "a", named, Mending())
    assert np.array_equal(corpus.read(1), named[1])


def test_an_interrupted_run_goes_on_to_the_same_bytes(named, tmp_path, monkeypatch):
    whole = prepared(tmp_path / "a", named * 12, Mending(text="blank"))
    calls = []

    def stops(*given):
        calls.append(given)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return apply(*given)

    apply = mending.apply_policy
    monkeypatch.setattr(mending, "apply_policy", stops)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "b", named * 12, Mending(text="blank"))
    monkeypatch.undo()
    again = prepare(
        tmp_path / "b/files.csv",
        tmp_path / "b/mended",
        key=KEY,
        workers=2,
        shorter_side=400,
        mend=Mending(text="blank"),
    )
    assert again.fingerprint == whole.fingerprint
    for shard in (whole.path / "shards").iterdir():
        assert shard.read_bytes() == (again.path / "shards" / shard.name).read_bytes()


@pytest.mark.parametrize("given", [{"fix": ("geometri",)}, {"text": "blanked"}, {"engine": "stroke"}])
def test_unknown_words_get_a_suggestion(given):
    with pytest.raises(ConfigError, match="Did you mean"):
        Mending(**given)


def test_an_engine_without_text_to_look_for_is_refused(capsys, monkeypatch, tmp_path):
    from raddino import cli

    with pytest.raises(
        ConfigError, match="'rapidocr' has nothing to do: give --text blank or quarantine, or --inspect"
    ):
        Mending(("geometry",), engine="rapidocr")
    assert Mending(text="blank", engine="rapidocr").engine == "rapidocr"
    monkeypatch.setattr("sys.argv", ["raddino", "prepare", "x", "--out", str(tmp_path), "--text-engine", "tesseract"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "'tesseract' has nothing to do" in capsys.readouterr().err


def test_an_inspection_at_the_end_gives_an_engine_something_to_do():
    assert mending.mending((), "keep", "both", inspected=True) is None
    assert mending.mending(("geometry",), "keep", "both", inspected=True) == Mending(("geometry",))
    assert mending.mending((), "blank", "both", inspected=True) == Mending(text="blank", engine="both")
    with pytest.raises(ConfigError, match="Did you mean 'both'"):
        mending.mending((), "keep", "boht", inspected=True)


def test_another_mending_is_another_corpus(named, tmp_path):
    from raddino.errors import RaddinoError

    prepared(tmp_path / "a", named, Mending(text="blank"))
    with pytest.raises(RaddinoError, match="other images, settings or key"):
        prepare(tmp_path / "a/files.csv", tmp_path / "a/mended", key=KEY, workers=1, shorter_side=400)
