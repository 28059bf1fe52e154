import numpy as np

from raddino.look.shown import as_seen, draw_rows, facts, showable
from report.fabricated import FakeCorpus, FakeEncoder


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


def test_facts_do_not_identify() -> None:
    corpus = FakeCorpus()
    corpus.manifest.loc[0, ["sex", "age"]] = ["F", 94.6]
    corpus.manifest.loc[1, "age"] = np.nan
    corpus.manifest["view"] = corpus.manifest["view"].astype(object)
    corpus.manifest.loc[1, "view"] = None
    assert facts(corpus, 0) == "PA, F, 90 years or older"
    assert facts(corpus, 1, omit=["sex"]) == ""
