"""Every coding of a mask against masks written by hand, bad masks, and the masks of the sample and of real images."""

import pickle

import numpy as np
import pandas as pd
import pytest

from memory_corpus import MemoryCorpus
from raddino.config import validate
from raddino.corpus.prepare import prepare
from raddino.errors import ConfigError, RaddinoError
from raddino.sample.generate import sample
from raddino.tasks.base import Absent
from raddino.tasks.segmentation.settings import SegmentationConfig
from raddino.tasks.segmentation.targets import IGNORE, Targets, bit_classes


class MaskCorpus(MemoryCorpus):
    """Images of 2 x 3 pixels; ``masks`` by name, one a row, None where there is none."""

    def __init__(self, masks, path, **facts):
        n = len(next(iter(masks.values())))
        places = {f"mask_{name}": [None if one is None else "there" for one in given] for name, given in masks.items()}
        split = ["train", "val", "test"] * n
        fixed = {"id": [f"image{i}" for i in range(n)], "split": split[:n], "height": 2, "width": 3}
        super().__init__([np.zeros((2, 3), np.uint8)] * n, pd.DataFrame(fixed | places | facts), path)
        self.masks = masks

    def read_mask(self, i, name):
        return None if self.masks[name][i] is None else np.array(self.masks[name][i])


def config(**values):
    return validate(SegmentationConfig, values)


ZONES = np.array([[0, 1, 2], [3, 4, 9]], np.uint8)


def test_values(tmp_path):
    corpus = MaskCorpus({"zones": [ZONES]}, tmp_path)
    targets = Targets(corpus, "mask_zones", config(classes={"left": [1, 2], "right": 3, "other": [4]}, ignore=[9]))
    assert targets.names == ("left", "right", "other")
    assert targets.exclusive
    bits = targets.read(0)
    assert bits.dtype == np.int32
    np.testing.assert_array_equal(bits, [[0, 1, 1], [2, 4, IGNORE]])
    np.testing.assert_array_equal(targets.pixels(np.array([0, 0])), [[2, 1, 1]] * 2)


def test_bits_take_the_classes_named_and_leave_other_bits(tmp_path):
    mask = np.array([[0, 1 << 13, 0b101], [0b100, 0b10, 65535]], np.uint16)
    setting = config(coding="bits", classes={"tube": 13, "lung": 0, "heart": 2}, ignore=[65535])
    targets = Targets(MaskCorpus({"multi": [mask]}, tmp_path), "multi", setting)
    assert not targets.exclusive
    np.testing.assert_array_equal(targets.read(0), [[0, 1, 0b110], [0b100, 0, IGNORE]])


def test_columns_overlap_and_one_ignored_pixel_is_ignored_for_all(tmp_path):
    a, b = np.array([[0, 255, 127], [255, 0, 0]]), np.array([[0, 255, 255], [0, 1, 0]])
    setting = config(coding="columns", classes={"A": "a", "B": "mask_b"}, ignore=[127])
    targets = Targets(MaskCorpus({"a": [a], "b": [b]}, tmp_path), "mask_a", setting)
    np.testing.assert_array_equal(targets.read(0), [[0, 3, IGNORE], [1, 2, 0]])


def test_rows_need_a_mask_or_the_word_that_it_is_empty(tmp_path):
    facts = {"label_ptx": [1.0, 0.0, np.nan, 0.0]}
    corpus = MaskCorpus({"ptx": [ZONES // 3 % 2, None, None, ZONES // 4 % 2]}, tmp_path, **facts)
    every = np.arange(4)
    blind = Targets(corpus, "mask_ptx", config(classes={"ptx": 1}))
    knowing = Targets(corpus, "mask_ptx", config(classes={"ptx": 1}, empty="label_ptx == 0"))
    assert blind.rows(every).tolist() == [0, 3]
    assert knowing.rows(every).tolist() == [0, 1, 3]
    assert knowing.rows(np.array([3, 2, 1])).tolist() == [3, 1]
    np.testing.assert_array_equal(knowing.read(1), np.zeros((2, 3)))
    np.testing.assert_array_equal(knowing.read(3), [[0, 0, 0], [0, 1, 0]])
    with pytest.raises(RaddinoError, match="mask_ptx of image image1 is missing"):
        blind.read(1)
    with pytest.raises(ConfigError, match=r"label_pt .* cannot be applied"):
        Targets(corpus, "ptx", config(classes={"ptx": 1}, empty="label_pt == 0")).rows(every)


def test_rows_of_columns_need_every_missing_one_to_be_empty(tmp_path):
    masks = {"a": [ZONES, ZONES, None, None], "b": [ZONES, None, ZONES, None]}
    corpus = MaskCorpus(masks, tmp_path, synthetic=[True, True, True, False])
    setting = {"coding": "columns", "classes": {"a": "a", "b": "b"}}
    assert Targets(corpus, "", config(**setting)).rows(np.arange(4)).tolist() == [0]
    whole = Targets(corpus, "", config(**setting, empty="synthetic"))
    assert whole.rows(np.arange(4)).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(np.unique(whole.read(1)), [0, 1])


def test_bad_masks_are_named(tmp_path):
    corpus = MaskCorpus({"zones": [ZONES, ZONES[:, :2]]}, tmp_path)
    targets = Targets(corpus, "zones", config(classes={"zone": [1, 2, 3]}))
    with pytest.raises(RaddinoError, match="mask_zones of image image0 holds the value 4, which is neither") as error:
        targets.read(0)
    assert "\n" not in str(error.value)
    with pytest.raises(RaddinoError, match=r"image1 has the shape \(2, 2\), the image \(2, 3\)"):
        targets.read(1)
    with pytest.raises(Absent, match=r"no column 'mask_zone'\. Did you mean 'mask_zones'"):
        Targets(corpus, "zone", config(classes={"zone": 1}))


@pytest.mark.parametrize("setting", [{"classes": {"a": 1, "b": [2, 1]}}, {"classes": {"a": 1}, "ignore": [1]}])
def test_a_value_that_stands_for_two_things_is_refused(tmp_path, setting):
    with pytest.raises(ConfigError, match="the mask value 1 stands for"):
        Targets(MaskCorpus({"m": [ZONES]}, tmp_path), "m", config(**setting))


def test_foreground_is_counted_with_one_reading(tmp_path):
    corpus = MaskCorpus({"m": [ZONES % 3, ZONES * 0, ZONES % 2]}, tmp_path)
    targets = Targets(corpus, "m", config(classes={"one": 1, "two": 2}))
    counts = [[2, 1], [0, 0], [3, 0]]
    assert targets.pixels(np.arange(3)).tolist() == counts
    corpus.masks = {}
    assert targets.pixels(np.arange(3)).tolist() == counts
    assert targets.pixels(np.array([], int)).shape == (0, 2)


def test_targets_travel_to_other_processes_and_know_their_mirror(tmp_path):
    corpus = MaskCorpus({"m": [ZONES]}, tmp_path)
    setting = config(classes={"a": [1, 2], "b": [3, 4], "c": 9}, mirror=[["a", "b"]])
    targets = pickle.loads(pickle.dumps(Targets(corpus, "m", setting)))
    assert targets.mirror == ((0, 1),)
    np.testing.assert_array_equal(targets.read(0), [[0, 1, 1], [2, 2, 4]])
    assert Targets(corpus, "m", config(classes={"all": [1, 2, 3, 4, 9]})).mirror is None


def test_sample(tmp_path):
    corpus = prepare(sample(tmp_path / "images", 8, size=64, workers=1), tmp_path / "corpus", workers=1)
    rows = np.arange(len(corpus))
    lungs = Targets(corpus, "mask_lungs", config(classes={"lungs": 255}))
    assert (lungs.pixels(lungs.rows(rows)) > 100).all()
    zones = Targets(corpus, "mask_zones", config(classes={f"zone {i}": i for i in range(1, 7)}))
    frontal = (corpus.manifest["view"] != "LATERAL").to_numpy()
    assert zones.rows(rows).tolist() == np.flatnonzero(frontal).tolist()
    names = [name for name in corpus.mask_names if f"label_{name}" in corpus.manifest]
    for name in names:
        one = Targets(corpus, name, config(classes={name: 255}, empty=f"label_{name} == 0"))
        assert one.rows(rows).tolist() == rows.tolist()
        np.testing.assert_array_equal(one.pixels(rows)[:, 0] > 0, corpus.manifest[f"label_{name}"] == 1)
    both = {"coding": "columns", "classes": {"heart": "heart", "lungs": "lungs"}}
    overlapping = Targets(corpus, "mask_heart", config(**both))
    np.testing.assert_array_equal(overlapping.pixels(rows)[:, 1], lungs.pixels(rows)[:, 0])


def test_real_masks(shared, tmp_path):
    where = "source == 'cohen' and (mask_multi.notna() or mask_zones.notna()) and group % 8 == 0"
    corpus = prepare(shared / "data/manifest.csv", tmp_path / "corpus", where=where, shorter_side=128, workers=1)
    rows = np.arange(len(corpus))
    lungs = Targets(corpus, "mask_lungs", config(classes={"lungs": 255}, ignore=[127]))
    zones = Targets(corpus, "mask_zones", config(classes={"all": list(range(1, 7))}))
    multi = Targets(corpus, "mask_multi", config(coding="bits", classes=bit_classes(corpus, "mask_multi")))
    assert len(multi.names) == 14
    assert multi.names[13] == "Tubings"
    assert len(lungs.rows(rows)) > 0
    assert (lungs.pixels(lungs.rows(rows)) > 0).all()
    assert (zones.pixels(zones.rows(rows)) > 0).all()
    either = multi.pixels(multi.rows(rows))
    assert (either[:, :2].sum(1) > 0).all()
    with pytest.raises(RaddinoError, match="does not tell the bits of mask 'lungs'"):
        bit_classes(corpus, "lungs")


@pytest.mark.parametrize("name", ["", " ", "left\nlung", "a\0"])
def test_class_names_are_one_line_of_text(name):
    with pytest.raises(ConfigError, match="a name is one line of text"):
        config(classes={name: 1})


@pytest.mark.parametrize("setting", ["side", "unet_side"])
def test_squares_that_no_memory_holds_are_refused(setting):
    with pytest.raises(ConfigError, match=setting):
        config(classes={"lung": 1}, **{setting: 96_000})


def test_a_batch_norm_of_one_value_is_refused():
    with pytest.raises(ConfigError, match="batch_size must be 2 or more"):
        config(classes={"lung": 1}, unet_side=32, batch_size=1)


def test_a_wrong_query_for_empty_masks_names_the_setting(tmp_path):
    targets = Targets(MaskCorpus({"zones": [ZONES]}, tmp_path), "zones", config(classes={"zone": 1}, empty="foo == 1"))
    with pytest.raises(ConfigError, match=r"empty: 'foo == 1' cannot be applied"):
        targets.rows(np.array([0]))


def drawn(tmp_path, **conventions):
    """Masks of sources a, b, b, and what is said of each source's."""
    facts = {"source": ["a", "b", "b"]}
    corpus = MaskCorpus({"lungs": [ZONES] * 3}, tmp_path, **facts)
    corpus.info["conventions"] = {"lungs": conventions, "heart": {"a": ["x"], "b": ["y"]}}
    return Targets(corpus, "lungs", config(classes={"lungs": [1, 2, 3, 4, 9]}))


@pytest.mark.parametrize(
    ("said", "rows", "told"),
    [
        ({}, [0, 1, 2], {}),
        ({"a": ["with"], "b": ["with"]}, [0, 1, 2], {}),
        ({"a": ["with"], "b": ["without"]}, [0, 1, 2], {"mask_lungs": {"with": ["a"], "without": ["b"]}}),
        ({"a": ["with"]}, [0, 1], {"mask_lungs": {"with": ["a"], "not said": ["b"]}}),
        ({"b": ["with", "without"]}, [1], {"mask_lungs": {"with": ["b"], "without": ["b"]}}),
        ({"a": ["with"], "b": ["without"]}, [1, 2], {}),
    ],
)
def test_two_ways_of_drawing_a_mask_are_told(tmp_path, said, rows, told):
    assert drawn(tmp_path, **said).conventions(np.array(rows)) == told
