"""Streams depend on seed, purpose and position, and on nothing else."""

import numpy as np
import pytest

from raddino.views.randomness import PURPOSES, generator, integer


def test_equal_arguments_give_equal_streams_and_others_do_not():
    places = [(seed, purpose, at) for seed in (0, 1) for purpose in PURPOSES for at in (0, 1, 2**40)]
    first = [tuple(generator(*place).random(3)) for place in places]
    assert first == [tuple(generator(*place).random(3)) for place in places]
    assert len(set(first)) == len(places)
    assert generator(3, "views").random() == generator(3, "views", 0).random()


def test_streams_of_neighbours_do_not_overlap():
    long = generator(0, "views", 0).random(10_000)
    assert not np.isin(generator(0, "views", 1).random(1000), long).any()
    assert not np.isin(generator(0, "masks", 0).random(1000), long).any()


def test_streams_stay_as_published_runs_had_them():
    """Philox 4x64 by its definition: counter words (0, 0, purpose, position), key the seed."""
    for number, purpose in enumerate(("order", "views", "masks", "drop_path", "weights", "probe", "source")):
        bits = np.random.Philox(key=5, counter=[0, 0, number, 7])
        assert generator(5, purpose, 7).integers(2**32) == np.random.Generator(bits).integers(2**32)


def test_integers_have_63_bits():
    found = [integer(seed, "weights") for seed in range(200)]
    assert len(set(found)) == 200
    assert min(found) >= 0
    assert 2**62 < max(found) < 2**63
    assert integer(3, "views") == integer(3, "views", 0) == int(generator(3, "views", 0).integers(2**63))


def test_an_unknown_purpose_is_an_error():
    with pytest.raises(ValueError, match="tuple"):
        generator(0, "luck")
