"""Names to things: encoders, tasks, presets are found by name, and a wrong name gets a suggestion."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from raddino.errors import RaddinoError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """A dictionary that is filled by decorator and refuses unknown names in one line."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a thing under ``name``."""

        def add(thing: T) -> T:
            if name in self._things:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._things[name] = thing
            return thing

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            raise RaddinoError(
                f"unknown {self.kind} {name!r}.{did_you_mean(name, self._things)} Known: {', '.join(self._things)}."
            )
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)
