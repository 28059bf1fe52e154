"""Search and its metrics against brute force, faiss, torchmetrics and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from raddino.errors import ConfigError, RaddinoError
from raddino.tasks.retrieval import task
from raddino.tasks.retrieval.task import average_precision_at_k, precision_at_k, search


@pytest.fixture
def problem():
    draw = np.random.default_rng(0)
    queries, gallery = draw.normal(size=(17, 6)), draw.normal(size=(60, 6))
    return queries, gallery, draw.integers(0, 9, 17).astype(str), draw.integers(0, 12, 60).astype(str)


def by_hand(queries, gallery, query_patients, gallery_patients, k):
    found = []
    for query, patient in zip(queries, query_patients, strict=True):
        cosine = gallery @ query / np.linalg.norm(gallery, axis=1) / np.linalg.norm(query)
        order = [i for i in np.argsort(-cosine) if gallery_patients[i] != patient][:k]
        found.append(order + [-1] * (k - len(order)))
    return np.array(found)


@pytest.mark.parametrize("engine", ["exact", "faiss"])
@pytest.mark.parametrize("k", [1, 7, 58, 100])
def test_nearest_of_other_patients(problem, engine, k):
    if engine == "faiss":
        pytest.importorskip("faiss")
    queries, gallery, asked, stored = problem
    np.testing.assert_array_equal(search(queries, gallery, k, asked, stored, engine), by_hand(*problem, k))


def test_chunks_change_nothing(problem, monkeypatch):
    queries, gallery, asked, stored = problem
    whole = search(queries, gallery, 5, asked, stored, "exact")
    monkeypatch.setattr(task, "CHUNK_CELLS", 130)
    np.testing.assert_array_equal(search(queries, gallery, 5, asked, stored, "exact"), whole)


@pytest.mark.parametrize("engine", ["exact", "faiss"])
def test_nothing_is_left_of_one_patient(engine):
    if engine == "faiss":
        pytest.importorskip("faiss")
    found = search(np.ones((2, 3)), np.ones((4, 3)), 2, np.array(["a", "b"]), np.array(["a"] * 4), engine)
    assert (found[0] == -1).all()
    assert (found[1] >= 0).all()
    empty = search(np.ones((2, 3)), np.ones((0, 3)), 2, np.array(["a", "b"]), np.array([]), engine)
    assert (empty == -1).all()


def test_zero_vectors_have_no_neighbours_of_their_own():
    found = search(
        np.array([[1.0, 0]]), np.array([[0, 0], [-1.0, 0], [1, 0]]), 3, np.array(["q"]), np.array(list("abc"))
    )
    assert found.tolist() == [[2, 0, 1]]


def test_precision_is_that_of_torchmetrics():
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval")
    import torch

    draw = np.random.default_rng(1)
    relevant = draw.random((20, 8)) < 0.4
    ranks = torch.linspace(1, 0.1, 8)
    for k in (1, 3, 8, 12):
        expected = [float(retrieval.retrieval_precision(ranks, torch.from_numpy(row), top_k=k)) for row in relevant]
        np.testing.assert_allclose(precision_at_k(relevant, k), expected, atol=1e-6)


def test_average_precision_of_the_whole_list_is_that_of_scikit_learn():
    draw = np.random.default_rng(2)
    relevant = draw.random((30, 12)) < 0.3
    value = average_precision_at_k(relevant, relevant.sum(1), 12)
    for row, one in zip(relevant, value, strict=True):
        if row.any():
            assert one == pytest.approx(average_precision_score(row, -np.arange(12)))
        else:
            assert np.isnan(one)


def test_a_perfect_list_has_average_precision_one_at_every_k():
    relevant = np.array([[True, True, True, False, False]])
    for k in (1, 2, 3, 5):
        assert average_precision_at_k(relevant, np.array([3]), k) == pytest.approx(1)
    assert average_precision_at_k(relevant, np.array([40]), 5) == pytest.approx(3 / 5)


def test_refusals(problem, monkeypatch):
    queries, gallery, asked, stored = problem
    with pytest.raises(ConfigError, match="at least 1"):
        search(queries, gallery, 0, asked, stored)
    with pytest.raises(ConfigError, match="engine"):
        search(queries, gallery, 1, asked, stored, "fast")
    monkeypatch.setattr(task.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RaddinoError, match="faiss-cpu"):
        search(queries, gallery, 1, asked, stored, "faiss")
    np.testing.assert_array_equal(search(queries, gallery, 4, asked, stored), by_hand(*problem, 4))
