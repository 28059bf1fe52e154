import numpy as np
from sklearn.decomposition import PCA

from raddino.report.gallery import as_seen, draw_rows, facts, gallery, overlay, pca_rgb, showable

from .fabricated import FakeCorpus, FakeEncoder, FloorEncoder


def test_colours_are_principal_components_of_the_whole_batch() -> None:
    patches = np.random.default_rng(0).normal(size=(4, 5, 6, 9)) * np.arange(1, 10)
    colours = pca_rgb(patches).reshape(-1, 3).astype(float)
    parts = PCA(3).fit_transform(patches.reshape(-1, 9))
    for ours, theirs in zip(colours.T, parts.T, strict=True):
        inner = (ours > 0) & (ours < 255)
        assert abs(np.corrcoef(ours[inner], theirs[inner])[0, 1]) > 0.999


def test_colours_of_few_dimensions_and_of_nothing() -> None:
    assert pca_rgb(np.random.default_rng(0).normal(size=(2, 3, 3, 2))).shape == (2, 3, 3, 3)
    assert pca_rgb(np.ones((2, 3, 3, 8))).shape == (2, 3, 3, 3)


def test_attention_lights_where_it_is_high() -> None:
    attention = np.zeros((3, 8, 8))
    attention[:, 1, 6] = 1
    light = overlay(np.zeros((64, 64), np.uint8), attention).sum(-1)
    y, x = np.unravel_index(light.argmax(), light.shape)
    assert (y // 8, x // 8) == (1, 6)


def test_the_frame_is_the_central_square_only_if_the_encoder_saw_it() -> None:
    corpus, encoder = FakeCorpus(), FakeEncoder()
    image = corpus.read(0)
    seen = encoder.preprocess([image])[0, 0].numpy()
    assert np.array_equal(as_seen(image, seen), image[:, 10:106])
    mirrored = as_seen(image, seen[:, ::-1])
    assert mirrored.shape == (64, 64)
    assert np.corrcoef(mirrored.ravel(), seen[:, ::-1].ravel())[0, 1] > 0.999
    assert np.array_equal(as_seen(image.astype(np.uint16) << 8, seen), image[:, 10:106])


def test_rows_are_test_images_of_different_patients_and_never_credentialed() -> None:
    corpus = FakeCorpus()
    rows = draw_rows(corpus, 8)
    table = corpus.manifest.iloc[rows]
    assert (table["split"] == "test").all()
    assert table["patient"].is_unique
    assert not len(draw_rows(FakeCorpus(source="MIMIC-CXR"), 8))
    corpus.manifest.loc[:9, "licence"] = "PhysioNet Credentialed Health Data License 1.5.0"
    assert showable(corpus).min() == 10


def test_pictures_follow_what_the_encoder_offers() -> None:
    corpus = FakeCorpus()
    whole = gallery(corpus, FakeEncoder(), list(range(6)), shown=4)
    assert len(whole) == 4
    assert all(p.colours and p.attention and p.image.startswith("data:image/jpeg") for p in whole)
    assert all(p.colours is None and p.attention is None for p in gallery(corpus, FloorEncoder(), [0, 1]))


def test_facts_do_not_identify() -> None:
    corpus = FakeCorpus()
    corpus.manifest.loc[0, ["sex", "age"]] = ["F", 94.6]
    corpus.manifest.loc[1, "age"] = np.nan
    corpus.manifest["view"] = corpus.manifest["view"].astype(object)
    corpus.manifest.loc[1, "view"] = None
    assert facts(corpus, 0) == "PA, F, 90 years or older"
    assert facts(corpus, 1, omit=["sex"]) == ""
