"""Other people's bytes are decoded in a process that may die: bounded in time and memory, and never heard.

A wall against accidents of C and Rust decoders (abort, segmentation fault, panic, endless loop), not a sandbox.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from raddino.errors import RaddinoError
from raddino.images.errors import UnreadableImage

T = TypeVar("T")
SECONDS, SECONDS_PER_MIB = 8, 1
MEMORY_GIB = 6  # the largest allowed picture, 89 million pixels in DICOM, takes 3.3 at its peak
START_SECONDS = 120
PATIENCE = 4
BOOT = "import sys; sys.path[:] = sys.argv[2:]; from raddino.images.wall import _serve; _serve(int(sys.argv[1]))"
ENDED = "a decoder ended on this file"
KILLED = "its decoding process was killed twice (out of memory?)"
LARGE = f"needs more than {MEMORY_GIB} GiB of memory"

_listening: int | None = None


class Wall:
    """One process of its own that runs functions on files, and is replaced when it ends; for one thread at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def call(self, function: Callable[..., T], *args: Any, seconds: int = SECONDS) -> T:
        """``function(*args)`` behind the wall.

        A call that ends its process is made once more in a new one, so that a process killed from outside loses
        nothing.

        Args:
            function: importable by name; it, its arguments and its result can be pickled.
            args: of the function.
            seconds: of processor time that it may take; see :func:`seconds_for`.

        Raises:
            ImageError: the function's own.
            UnreadableImage: it ended its process twice, took longer, needed more memory than 6 GiB, or raised
                something else.
            RaddinoError: no process can be started, or it cannot import the function.
        """
        request = pickle.dumps((function, args, seconds), protocol=5)
        failure: Exception
        for _ in range(2):
            try:
                answer = self._ask(request, seconds)
            except _Ended as error:
                failure = UnreadableImage(error.reason)
                if error.final:
                    break
                continue
            if not isinstance(answer, _Failed):
                return answer
            failure = answer.error
            if not answer.again:
                break
            self.close()
        raise failure from None

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._connection = self._process = None

    def __enter__(self) -> Wall:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: bytes, seconds: int) -> Any:
        """The answer to one request; a process that does not give one is ended."""
        connection = self._connection or self._start()
        try:
            connection.send_bytes(request)
            if not connection.poll(seconds * PATIENCE):
                raise _Ended(f"took more than {seconds} s")
            return pickle.loads(connection.recv_bytes())
        except BaseException as error:
            told = self._why(seconds) if isinstance(error, EOFError | OSError) else error
            self.close()
            raise told from None

    def _start(self) -> Connection:
        ours, theirs = multiprocessing.Pipe()
        self._connection = ours
        with contextlib.suppress(EOFError, OSError):
            with uninterrupted(), theirs:
                command = [sys.executable, "-c", BOOT, str(theirs.fileno()), *sys.path]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
            if ours.poll(START_SECONDS) and ours.recv_bytes() == b"ready":
                return ours
        self.close()
        raise RaddinoError("the process that decodes images could not be started; run again to continue")

    def _why(self, seconds: int) -> _Ended:
        """The end of the process in our words."""
        assert self._process is not None
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            status = 0
        if status == -signal.SIGPROF:
            return _Ended(f"took more than {seconds} s", final=True)
        return _Ended(KILLED if status in (-signal.SIGKILL, -signal.SIGTERM) else ENDED)


def seconds_for(*files: str | os.PathLike[str] | bytes) -> int:
    """Processor time that decoding files, by their paths or bytes, may take: 8 s, and 1 s more for each MiB."""
    paths = (file for file in files if not isinstance(file, bytes) and os.path.isfile(file))
    sizes = [*(len(file) for file in files if isinstance(file, bytes)), *map(os.path.getsize, paths)]
    return SECONDS + SECONDS_PER_MIB * (sum(sizes) >> 20)


def printed() -> bytes:
    """What libraries wrote to the terminal since the last time this was asked: to be judged, never to be passed on.

    Known behind a wall only; elsewhere it is empty.
    """
    if _listening is None:
        return b""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)
    heard = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(_listening, 2**16):
            heard += part
    return heard


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back for a moment: processes started in it never get one, and this process gets it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Ended(Exception):
    """The process gave no answer; ``final`` where another try would end the same way."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.final = reason, final


class _Failed:
    """In the place of a result: what is to be raised, and whether a new process may fare better."""

    def __init__(self, error: RaddinoError, again: bool = False) -> None:
        self.error, self.again = error, again


def _serve(handle: int) -> None:
    """The process: answer requests until the other side is gone."""
    connection = Connection(handle)
    threading.Thread(target=_end_with_parent, args=(handle,), daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # where the system has a lower limit, that one holds
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_GIB << 30, MEMORY_GIB << 30))
    warnings.simplefilter("ignore")
    _listen()
    connection.send_bytes(b"ready")
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)
        connection.send_bytes(_answer(request))


def _answer(request: bytes) -> bytes:
    try:
        function, args, seconds = pickle.loads(request)
    except Exception as error:
        cause = type(error).__name__
        return pickle.dumps(_Failed(RaddinoError(f"the process that decodes images lacks a module ({cause})")))
    printed()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return pickle.dumps(function(*args), protocol=5)
    except MemoryError:
        return pickle.dumps(_Failed(UnreadableImage(LARGE), again=True))
    except RaddinoError as error:
        return pickle.dumps(_Failed(error))
    except BaseException as error:  # a panic of a Rust decoder is no Exception
        return pickle.dumps(_Failed(UnreadableImage(f"unexpected {type(error).__name__}")))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _listen() -> None:
    """Let standard output and error run into a pipe that drops what it cannot hold."""
    global _listening
    _listening, end = os.pipe()
    for side in (_listening, end):
        os.set_blocking(side, False)
    for stream in (1, 2):
        os.dup2(end, stream)


def _end_with_parent(handle: int) -> None:
    hung_up = select.poll()
    hung_up.register(handle, 0)
    hung_up.poll()
    os._exit(1)
