import numpy as np
import pytest
from sklearn.metrics import f1_score

from raddino.errors import RaddinoError
from raddino.tasks.findings.baselines import best_constant, derangement, nearest_texts


@pytest.mark.parametrize("counts", [[1] * 12, [6, 1, 1, 1, 1, 1, 1], [3, 3, 2, 2, 1], [5, 5]])
def test_everybody_gets_an_image_of_another_patient_and_every_image_is_used(counts: list[int]) -> None:
    patients = np.random.default_rng(0).permutation(np.repeat([f"p{i}" for i in range(len(counts))], counts))
    for seed in range(20):
        given = derangement(patients, seed)
        assert sorted(given) == list(range(len(patients)))
        assert (patients[given] != patients).all()
    assert (derangement(patients, 3) == derangement(patients, 3)).all()


def test_seeds_draw_different_exchanges() -> None:
    patients = np.array([f"p{i}" for i in range(30)])
    assert len({tuple(derangement(patients, seed)) for seed in range(5)}) == 5


def test_one_patient_with_most_images_is_refused() -> None:
    with pytest.raises(RaddinoError, match="one patient has 3 of 5 images"):
        derangement(np.array(["a", "a", "a", "b", "c"]), 0)


def test_the_prior_is_the_constant_that_scikit_learn_scores_highest() -> None:
    draw = np.random.default_rng(1)
    for _ in range(20):
        labels = draw.choice([1.0, 0.0, -1.0, np.nan], size=(25, 14), p=[0.25, 0.25, 0.1, 0.4])
        texts = [f"text {i}" for i in range(25)]
        present = labels == 1
        scores = [f1_score(present, np.tile(row, (25, 1)), average="micro", zero_division=0) for row in present]
        chosen = texts.index(best_constant(texts, labels))
        assert scores[chosen] == pytest.approx(max(scores))


def test_of_equal_priors_the_most_frequent_text_wins() -> None:
    labels = np.zeros((5, 14))
    labels[:4, 2] = 1
    assert best_constant(["b", "c", "c", "a", "none"], labels) == "c"
    assert best_constant(["b", "c", "d", "a", "none"], labels) == "a"
    with pytest.raises(ValueError, match="no training text"):
        best_constant([], np.empty((0, 14)))


def test_the_nearest_text_is_never_the_own_patients() -> None:
    gallery = np.eye(3)
    texts = nearest_texts(
        np.array([[1.0, 0.5, 0], [0, 0, 1.0]]),
        gallery,
        ["x", "y", "z"],
        np.array(["a", "q"]),
        np.array(["a", "b", "c"]),
    )
    assert texts == ["y", "z"]
    assert nearest_texts(gallery[:1], gallery[:1], ["x"], np.array(["a"]), np.array(["a"])) == [""]
