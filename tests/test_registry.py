"""A registry gives back what was filed, keeps its order, and refuses doubles and unknown names."""

import pytest

from raddino.errors import RaddinoError
from raddino.registry import Registry


@pytest.fixture
def animals() -> Registry[type]:
    registry: Registry[type] = Registry("animal")
    for name in ("zebra", "ape", "mouse"):
        registry.register(name)(type(name, (), {}))
    return registry


def test_what_is_filed_is_found_in_order(animals):
    assert animals["ape"].__name__ == "ape"
    assert list(animals) == ["zebra", "ape", "mouse"]
    assert "mouse" in animals
    assert "moose" not in animals


def test_the_decorated_thing_stays_what_it_is(animals):
    def thing() -> None: ...

    assert animals.register("thing")(thing) is thing


def test_an_unknown_name_is_one_line_with_a_suggestion(animals):
    with pytest.raises(RaddinoError, match=r"^unknown animal 'mose'\..*mouse.* Known: zebra, ape, mouse\.$"):
        animals["mose"]


def test_a_name_is_taken_once(animals):
    with pytest.raises(ValueError, match="animal 'ape' is registered twice"):
        animals.register("ape")(int)
    assert animals["ape"].__name__ == "ape"
