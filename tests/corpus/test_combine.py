"""Several corpora as one: the same images, caps by whole patients, identity that follows what is in it."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raddino.corpus.combine import combine
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.corpus.splits import patients_within
from raddino.errors import ConfigError, RaddinoError


def make(folder, source: str, patients: int, **options) -> Corpus:
    """Three images a patient; the first two thirds of the patients are train, ``nih`` has masks."""
    (folder / source).mkdir(parents=True)
    rng, rows = np.random.default_rng(len(source)), []
    for n in range(3 * patients):
        Image.fromarray(rng.integers(0, 255, (20, 18)).astype(np.uint8)).save(folder / source / f"{n}.png")
        split = "train" if n // 3 < patients * 2 // 3 else ("val", "test")[n // 3 % 2]
        rows.append({"path": f"{n}.png", "patient": f"{source}{n // 3}", "source": source, "split": split,
                     f"label_{source}": n % 2} | ({"mask_lungs": f"{n}.png"} if source == "nih" else {}))  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / source / "manifest.csv", index=False)
    return prepare(folder / source, folder / f"packed_{source}", workers=1, **options)


@pytest.fixture
def corpora(tmp_path):
    return [make(tmp_path, "nih", 12), make(tmp_path, "brax", 9)]


def test_images_masks_and_rows_of_both(corpora):
    both = combine(corpora)
    assert len(both) == 63
    for i, part, row in ((0, 0, 0), (35, 0, 35), (36, 1, 0), (62, 1, 26)):
        np.testing.assert_array_equal(both.read(i), corpora[part].read(row))
        assert both.manifest["id"][i] == corpora[part].manifest["id"][row]
    np.testing.assert_array_equal(both.read_mask(3, "lungs"), corpora[0].read_mask(3, "lungs"))
    assert both.read_mask(40, "lungs") is None
    with pytest.raises(ConfigError, match="no mask 'lung'"):
        both.read_mask(40, "lung")
    assert both.manifest["label_brax"].isna().sum() == 36
    assert len(both.rows("train", where="source == 'brax'")) == 18
    assert both.info["sources"] == {"nih": 36, "brax": 27}
    assert both.weights == {}
    assert not both.synthetic
    assert both.fingerprints == [part.fingerprint for part in corpora]


def test_caps_take_whole_train_patients_nested_and_leave_the_rest(corpora):
    taken = {}
    for cap in (7, 13, 24, 1000):
        both = combine(corpora, caps={"nih": cap}, seed=3)
        train = both.manifest.iloc[both.rows("train", where="source == 'nih'")]
        assert cap - 3 < len(train) <= cap or len(train) == 24
        assert train["patient"].value_counts().eq(3).all()
        assert len(both.rows("test")) + len(both.rows("val")) == 12 + 9
        assert len(both.rows("train", where="source == 'brax'")) == 18
        taken[cap] = set(train["id"])
        row = int(both.rows(where="source == 'brax'")[0])
        np.testing.assert_array_equal(both.read(row), corpora[1].read(0))
    assert taken[7] < taken[13] < taken[24] == taken[1000]
    other = combine(corpora, caps={"nih": 13}, seed=5)
    assert set(other.manifest["id"]) != set(combine(corpora, caps={"nih": 13}, seed=3).manifest["id"])


def test_identity_follows_parts_weights_caps_and_seed(corpora):
    plain = combine(corpora)
    assert plain.fingerprint == combine(corpora).fingerprint
    changed = [
        combine(corpora[::-1]),
        combine(corpora, {"nih": 2}),
        combine(corpora, caps={"nih": 9}),
        combine(corpora, seed=1),
    ]
    assert len({plain.fingerprint, *(each.fingerprint for each in changed)}) == 5


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"weights": {"nhi": 1}}, "no corpus has that source. Did you mean 'nih'"),
        ({"weights": {"nih": 0}}, "must be above 0"),
        ({"weights": {"nih": float("nan")}}, "must be above 0"),
        ({"caps": {"brax": -3}}, "must be above 0"),
        ({"caps": {"brax": 2}}, "below the images of its first patient"),
    ],
)
def test_wrong_weights_and_caps(corpora, options, match):
    with pytest.raises(ConfigError, match=match):
        combine(corpora, **options)


def test_what_cannot_be_combined(corpora, tmp_path):
    with pytest.raises(ConfigError, match="nothing to combine"):
        combine([])
    with pytest.raises(RaddinoError, match=r"packed_nih shares 36 images with packed_nih"):
        combine([corpora[0], corpora[0]])
    with pytest.raises(ConfigError, match="8 and of 16 bits"):
        combine([corpora[0], make(tmp_path, "deep", 3, bits=16)])
    table = pd.read_csv(tmp_path / "nih/manifest.csv").iloc[-3:].assign(split="train", id=["x", "y", "z"])
    for n, name in enumerate(table["path"]):
        Image.fromarray(np.eye(20, 18, n, np.uint8) * 255).save(tmp_path / "nih" / name)
    table.to_csv(tmp_path / "nih/manifest.csv", index=False)
    moved = prepare(tmp_path / "nih", tmp_path / "moved", workers=1)
    with pytest.raises(RaddinoError, match=r"1 patient stands in two splits"):
        combine([corpora[0], moved])


def test_one_image_in_two_corpora_is_refused_whatever_it_is_called(corpora, tmp_path):
    copies = pd.read_csv(tmp_path / "nih/manifest.csv").iloc[30:32].assign(source="copy", patient=["a", "b"])
    new = copies.iloc[:1].assign(path="new.png", patient="c")
    Image.fromarray(np.eye(20, 18, dtype=np.uint8) * 255).save(tmp_path / "nih/new.png")
    pd.concat([copies, new]).to_csv(tmp_path / "nih/copies.csv", index=False)
    again = prepare(tmp_path / "nih/copies.csv", tmp_path / "again", workers=1)
    assert set(again.manifest["id"]).isdisjoint(corpora[0].manifest["id"])
    with pytest.raises(RaddinoError, match=r"^again shares 2 images with packed_nih, .* same pixels"):
        combine([corpora[1], corpora[0], again])
    assert len(combine([corpora[1], again])) == 30


def test_patients_within_is_a_prefix_of_one_order():
    patients = np.repeat([f"p{n}" for n in range(30)], np.arange(30) % 4 + 1)
    before = np.zeros(len(patients), bool)
    for limit in range(len(patients) + 3):
        inside = patients_within(patients, limit, 0)
        assert inside.sum() <= limit
        assert set(patients[inside]).isdisjoint(patients[~inside])
        assert (before <= inside).all()
        before = inside
    assert before.all()


def test_pretraining_draws_by_weight_and_fraction(corpora, tmp_path):
    from raddino.config import validate
    from raddino.training.loader import Samples
    from raddino.training.pretrain import PretrainConfig, training_rows

    both = combine(corpora, weights={"brax": 2})
    config = validate(PretrainConfig, {"batch_size": 4})
    rows = training_rows(both, config)
    samples = Samples(both, rows, config.views, seed=0)
    drawn = both.manifest["source"].to_numpy()[[samples.order(p) for p in range(24 + 36)]]
    assert pd.Series(drawn).value_counts().to_dict() == {"brax": 36, "nih": 24}
    assert np.array_equal(samples[5][1], both.read(samples.order(5)))
    few, more = (training_rows(both, config.model_copy(update={"fraction": f})) for f in (0.3, 0.6))
    assert set(few) < set(more) < set(rows)
    patients = both.manifest["patient"]
    assert set(patients[few]).isdisjoint(patients[np.setdiff1d(rows, few)])


def test_pretraining_says_what_it_draws_on(corpora):
    from raddino.training.pretrain import _summary

    both = combine(corpora, weights={"brax": 2}, caps={"nih": 13})
    rows = both.rows("train")
    images = len(both.rows("train", where="source == 'nih'"))
    said = f"brax 18 (weight 2), nih {images} (cap 13)"
    assert _summary(both, rows) == f"pretrain on {18 + images} images of {6 + images // 3} patients, real: {said}"
    assert _summary(corpora[0], corpora[0].rows("val")) == "pretrain on 6 images of 2 patients, real: nih 6"
    both.manifest.loc[rows[:3], "synthetic"] = True
    assert ", partly synthetic: " in _summary(both, rows)
    assert ", synthetic: " in _summary(both, rows[:3])
