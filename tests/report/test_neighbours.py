import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from raddino.features.extract import embed
from raddino.report.neighbours import agreement, nearest, retrieve

from .fabricated import FakeCorpus, FakeEncoder, FloorEncoder


def test_nearest_agrees_with_scikit_learn_and_skips_the_own_patient() -> None:
    draw = np.random.default_rng(0)
    stored, queries = draw.normal(size=(50, 8)), draw.normal(size=(7, 8))
    stranger = np.full(7, "q")
    patients = np.array([f"p{i}" for i in range(50)])
    found, cosine = nearest(queries, stored, stranger, patients)
    distance, expected = NearestNeighbors(n_neighbors=5, metric="cosine").fit(stored).kneighbors(queries)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(cosine, 1 - distance)
    own = patients[expected[:, 0]]
    found, _ = nearest(queries, stored, own, patients)
    np.testing.assert_array_equal(found[:, :4], expected[:, 1:])


def test_with_too_few_strangers_the_rest_is_marked() -> None:
    _, cosine = nearest(np.ones((1, 2)), np.ones((3, 2)), np.array(["a"]), np.array(["a", "b", "a"]), k=3)
    assert np.isfinite(cosine).sum() == 1


def test_agreement_is_counted_over_positive_queries_with_known_labels() -> None:
    values = pd.Series([1, 0, 1, np.nan, 1, 0, 0, 1.0])
    asked, stored = np.array([0, 1, 3]), np.array([4, 5, 6, 7])
    found = np.array([[4, 5], [5, 6], [4, 7]])
    part = agreement(values, asked, found, stored, "label_pleural_effusion")
    assert part is not None
    assert (part.label, part.share, part.chance, part.queries) == ("pleural effusion", 0.5, 0.5, 1)
    assert agreement(values * np.nan, asked, found, stored, "x") is None


def test_agreement_of_text_counts_every_query() -> None:
    values = pd.Series(["F", "M", "F", "F", "M", None], dtype=object)
    part = agreement(values, np.array([0, 1]), np.array([[2, 4], [4, 5]]), np.array([2, 3, 4, 5]), "sex")
    assert part is not None
    assert part.share == 2 / 3
    assert part.chance == 0.5 * 2 / 3 + 0.5 * 1 / 3


def test_retrieval_shows_strangers_from_training(corpus: FakeCorpus) -> None:
    found = retrieve(corpus, FakeEncoder(), ["sex", "label_pneumonia", "not_there"])
    assert found is not None
    assert found.searched == (corpus.manifest["split"] == "train").sum()
    assert {part.label for part in found.agreement} == {"sex", "pneumonia"}
    assert len(found.queries) == 6
    for query, neighbours in found.queries:
        assert len(neighbours) == 5
        assert all(mark.agrees is None for mark in query.marks)
        words = {mark.text for mark in query.marks}
        for shown in neighbours:
            assert all(mark.agrees == (mark.text in words) for mark in shown.marks)


class Counting(FakeEncoder):
    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, batch):
        self.encoded += len(batch)
        return super().encode(batch)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_is_embedded_but_what_is_shown(tmp_path, monkeypatch, precision) -> None:
    encoder, corpus = Counting(), FakeCorpus(path=tmp_path)
    monkeypatch.setattr("raddino.report.neighbours.FRESH", 7)
    fresh = retrieve(corpus, encoder, ["sex"])
    assert fresh is not None
    assert fresh.searched == 7
    assert encoder.encoded == 14
    shutil.rmtree(corpus.path / "features")
    evaluated = np.concatenate([corpus.rows("train")[:8], corpus.rows("test")[:3]])
    embed(corpus, encoder, rows=evaluated, precision=precision)
    before = encoder.encoded
    found = retrieve(corpus, encoder, ["sex"])
    assert found is not None
    assert encoder.encoded == before
    assert found.searched == 8
    assert found.agreement[0].queries == 3


def test_a_corpus_too_small_to_search(corpus: FakeCorpus) -> None:
    corpus.manifest = corpus.manifest.iloc[:4]
    assert retrieve(corpus, FloorEncoder(), ["sex"]) is None
