"""The one progress bar: a moving bar on a terminal, a line every few seconds in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
LOG_EVERY_SECONDS = 10.0
_open: "list[Bar]" = []
_subjects: list[str] = []


class Bar:
    """Counts up to ``total`` and shows ``text`` beside the count; nothing of it when ``silent``."""

    def __init__(self, description: str, total: int | None, done: int = 0, silent: bool = False) -> None:
        self.silent = silent
        self.description, self.total, self.done, self.text = description, total, done, ""
        self._first, self._start, self._shown = done, time.monotonic(), time.monotonic()
        self._rich = None
        if sys.stderr.isatty() and not silent:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._rich = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"), console=Console(stderr=True),
            )  # fmt: skip
            self._task = self._rich.add_task(description, total=total, completed=done, text="")
            self._rich.start()

    def advance(self, n: int = 1, text: str | None = None) -> None:
        """Move on by ``n``; ``text`` (for example ``"loss 5.1"``) replaces what stands beside the count."""
        self.done += n
        self.text = self.text if text is None else text
        if self._rich is not None:
            self._rich.update(self._task, completed=self.done, text=self.text)
        elif time.monotonic() - self._shown > LOG_EVERY_SECONDS:
            self._log()

    def say(self, message: str) -> None:
        """Print a lasting line above the bar."""
        if self._rich is not None:
            self._rich.console.print(message, highlight=False)
        else:
            print(message, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar from the terminal, or write the last line to the log."""
        if self._rich is not None:
            self._rich.stop()
        elif self._shown != self._start:
            self._log()

    def _log(self) -> None:
        if self.silent:
            return
        self._shown = time.monotonic()
        rate = (self.done - self._first) / max(self._shown - self._start, 1e-9)
        speed = f"  {rate:.1f}/s" if rate else ""
        of = f"/{self.total}" if self.total is not None else ""
        print(
            f"{self.description} {self.done}{of}{speed}  {self.text}".rstrip(),
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def bar(description: str, total: int | None = None, done: int = 0, silent: bool = False) -> Iterator[Bar]:
    """A :class:`Bar` that closes itself; silent inside another one, which tells how far the whole is."""
    shown = Bar(description, total, done, silent=silent or bool(_open))
    _open.append(shown)
    try:
        yield shown
    finally:
        _open.remove(shown)
        shown.close()


@contextmanager
def about(name: str) -> Iterator[None]:
    """Let bars and messages within call an encoder by its display name."""
    _subjects.append(name)
    try:
        yield
    finally:
        _subjects.pop()


def subject(own: str) -> str:
    """What to call an encoder: its display name within :func:`about`, else its ``own``."""
    return _subjects[-1] if _subjects else own


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate over ``items`` with a bar; ``total`` defaults to ``len(items)`` where there is one."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(description, total) as shown:
        for item in items:
            yield item
            shown.advance()
