"""Exclusive seconds by part: a clock that stops the outer part while an inner one runs, so that the parts sum up."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest import mock

import torch

Place = tuple[Any, str, str]
"""A function as owner and attribute, and the part that its time belongs to; a part with a colon begins a phase."""


class Clock:
    """Seconds by part, in the order in which parts are first met.

    Attributes:
        seconds: by part; an inner part is named after the phase it runs in (``"teacher: MLP"``).
        wait: waits for the device before the time is read.
    """

    def __init__(self, wait: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.wait, self._open, self._since = wait, ["everything else"], 0.0
        self._phases = [""]

    @contextmanager
    def counting(self, places: Sequence[Place]) -> Iterator[None]:
        """Replace the functions by timed ones for a while."""
        with ExitStack() as replaced:
            for owner, name, part in places:
                replaced.enter_context(mock.patch.object(owner, name, self.timed(getattr(owner, name), part)))
            self.wait()
            self._since = time.perf_counter()
            yield
            self._turn()

    def _turn(self) -> None:
        self.wait()
        now = time.perf_counter()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The function, its time added to ``part``."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            phase = part.endswith(":")
            self._phases.append(f"{part} " if phase else self._phases[-1])
            self._open.append(f"{part} rest" if phase else self._phases[-1] + part)
            try:
                return function(*args, **kwargs)
            finally:
                self._turn()
                self._open.pop()
                self._phases.pop()

        return timed


def products_share(profile: torch.profiler.profile) -> float:
    """Share of the operators' own time that is matrix products and attention."""
    names = ("mm", "linear", "attention", "convolution")
    own = [(one.key, one.self_cpu_time_total + getattr(one, "self_device_time_total", 0)) for one in
           profile.key_averages()]  # fmt: skip
    total = sum(spent for key, spent in own if "::" in key)
    return sum(spent for key, spent in own if "::" in key and any(name in key for name in names)) / total
