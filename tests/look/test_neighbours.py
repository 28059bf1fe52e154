import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from raddino.features.extract import embed
from raddino.look.neighbours import agreement, embedded, nearest
from report.fabricated import FakeCorpus, FakeEncoder


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


def test_what_is_held_is_drawn_from_and_else_little_is_embedded(tmp_path, monkeypatch) -> None:
    corpus, encoder = FakeCorpus(path=tmp_path), FakeEncoder()
    monkeypatch.setattr("raddino.look.neighbours.FRESH", 6)
    assert len(embedded(corpus, encoder, most=100).rows) == 12
    embed(corpus, encoder, rows=np.arange(30))
    found = embedded(corpus, encoder, most=20)
    assert len(found.rows) == 20
    np.testing.assert_array_equal(found.rows, embedded(corpus, encoder, most=20).rows)
