"""A server of ``raddino pretrain`` with faults: each line of stdin is a case, each line of stdout what came of it.

Every case runs in a fork of this process, which has imported everything. It ends as the interpreter does, where threads
and processes that still run are waited for, without the seconds that taking all modules apart costs.
"""

import atexit
import errno
import json
import os
import resource
import signal
import sys
import threading
import time
from multiprocessing import active_children
from pathlib import Path

import torch

from raddino import cli
from raddino.corpus.dataset import Corpus
from raddino.errors import RaddinoError
from raddino.report import curves  # noqa: F401
from raddino.ssl import SelfDistillation
from raddino.training import checkpoint, loader, loop, pretrain
from raddino.training.monitor import Monitor

AT_STEP = 3
AT_POSITION = 20
LIMIT_SECONDS = 40


def before_call(owner, name, count, act):
    """Let ``act`` come before a call of ``owner.name``, in the process that calls it, from the ``count``-th call on."""
    real, calls = getattr(owner, name), []

    def replaced(*args, **options):
        calls.append(1)
        if len(calls) >= count:
            Path(os.environ["FAULT_TIME"]).touch(exist_ok=True)
            act()
        return real(*args, **options)

    setattr(owner, name, replaced)


def raising(error):
    def act():
        raise error

    return act


def refused(number):
    return raising(OSError(number, os.strerror(number)))


def killing(number):
    return lambda: os.kill(os.getpid(), number)


def in_worker(act):
    return lambda: act() if loader.multiprocessing.parent_process() is not None else None


def kill_a_worker():
    for worker in active_children()[:1]:
        os.kill(worker.pid, signal.SIGKILL)
    for _ in range(50):
        time.sleep(0.01)


def kill_a_worker_meanwhile(owner, name, count):
    """In a call of the thread that saves, while the training is within step ``AT_STEP``."""
    killed = threading.Event()

    def install():
        before_call(owner, name, count, lambda: (kill_a_worker(), killed.set()))
        step(lambda: killed.wait(LIMIT_SECONDS))()

    return install


def full_at(size):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def sleeping():
    time.sleep(3600)


def step(act):
    return lambda: before_call(SelfDistillation, "update_teacher", AT_STEP, act)


def sample(act):
    def install():
        real = loader.Samples.__getitem__

        def replaced(self, position):
            if position == AT_POSITION:
                Path(os.environ["FAULT_TIME"]).touch(exist_ok=True)
                act()
            return real(self, position)

        loader.Samples.__getitem__ = replaced

    return install


def reading(error):
    def install():
        sample(lambda: setattr(Corpus, "read", raising_read))()

        def raising_read(self, row):
            raise error

    return install


def twice(number):
    return lambda: [os.kill(os.getpid(), number) for _ in range(2)]


def hang_up():
    """As a terminal that closes: to all processes of the session."""
    os.killpg(os.getpid(), signal.SIGHUP)


def ignored(number):
    def install():
        signal.signal(number, signal.SIG_IGN)
        step(killing(number))()

    return install


def hang():
    loader.PATIENCE_SECONDS = 2.0
    sample(in_worker(sleeping))()


FAULTS = {
    "none": lambda: None,
    "step: bug": step(raising(ValueError("Mustermann^Max"))),
    "step: GPU memory": step(raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB"))),
    "step: memory": step(raising(RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate"
                                              " memory: you tried to allocate 1 bytes."))),
    "sample: damaged": reading(RaddinoError("shard x is damaged")),
    "sample: disk": reading(OSError(errno.EIO, os.strerror(errno.EIO))),
    "sample: memory": reading(MemoryError()),
    "sample: bug": reading(KeyError("Mustermann^Max")),
    "worker: killed": sample(in_worker(killing(signal.SIGKILL))),
    "worker: fault": sample(in_worker(killing(signal.SIGSEGV))),
    "worker: bus": sample(in_worker(killing(signal.SIGBUS))),
    "worker: hangs": hang,
    "worker: killed in step": step(kill_a_worker),
    "worker: killed in checkpoint": kill_a_worker_meanwhile(checkpoint, "write_sums", 1),
    "worker: killed in monitor": lambda: before_call(Monitor, "look", 1, kill_a_worker),
    "worker: killed in export": kill_a_worker_meanwhile(pretrain, "save_encoder", 2),
    "worker: cannot start": lambda: before_call(os, "fork", 1, refused(errno.EAGAIN)),
    "monitor": lambda: before_call(Monitor, "look", 2, raising(ValueError("Mustermann^Max"))),
    "monitor: start": lambda: before_call(Monitor, "__init__", 1, raising(RaddinoError("shard x is damaged"))),
    "checkpoint: full": lambda: before_call(checkpoint, "save_file", 3, full_at(4096)),
    "checkpoint: rights": lambda: before_call(checkpoint, "save_file", 3, refused(errno.EACCES)),
    "export: full": lambda: before_call(pretrain, "save_encoder", 2, full_at(4096)),
    "export: bug": lambda: before_call(pretrain, "save_encoder", 2, raising(ValueError("x"))),
    "initial: full": lambda: before_call(pretrain, "save_encoder", 1, full_at(4096)),
    "metrics: full": lambda: before_call(loop.Loop, "_record", 2, full_at(300)),
    "config: full": lambda: before_call(pretrain, "write_identity", 1, full_at(200)),
    "interrupt": step(killing(signal.SIGINT)),
    "interrupt twice": step(twice(signal.SIGINT)),
    "interrupt ignored": ignored(signal.SIGINT),
    "terminate": step(killing(signal.SIGTERM)),
    "terminate twice": step(twice(signal.SIGTERM)),
    "terminate ignored": ignored(signal.SIGTERM),
    "make room": step(killing(signal.SIGUSR1)),
    "make room twice": step(twice(signal.SIGUSR1)),
    "make room ignored": ignored(signal.SIGUSR1),
    "hang up": step(hang_up),
    "hang up: start": lambda: before_call(Monitor, "__init__", 1, hang_up),
    "interrupt: start": lambda: before_call(Monitor, "__init__", 1, killing(signal.SIGINT)),
    "terminate: start": lambda: before_call(Monitor, "__init__", 1, killing(signal.SIGTERM)),
    "killed": step(killing(signal.SIGKILL)),
}  # fmt: skip


def child(case, told):
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(told, 2)
    os.environ["FAULT_TIME"] = case["mark"]
    FAULTS[case["fault"]]()
    sys.argv = ["raddino", *case["argv"]]
    status = 0
    try:
        cli.main()
    except SystemExit as stopped:
        status = stopped.code or 0
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(status)


def of_session(leader):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def wait_for(pid, fault):
    """(exit status, seconds from fault to end, processes left a moment later)."""
    end = time.monotonic() + LIMIT_SECONDS
    status = None
    while status is None:
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
        elif time.monotonic() > end:
            for one in of_session(pid):
                os.kill(one, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hangs", None, []
        time.sleep(0.005)
    ended = time.time()
    seconds = ended - fault.stat().st_mtime if fault.exists() else None
    moment = time.monotonic() + 3
    while of_session(pid) and time.monotonic() < moment:
        time.sleep(0.01)
    return status, seconds, of_session(pid)


def main():
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        case = json.loads(line)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            answers.close()
            child(case, writer)
        os.close(writer)
        status, seconds, left = wait_for(pid, Path(case["mark"]))
        for one in left:
            os.kill(one, signal.SIGKILL)
        with os.fdopen(reader) as told:
            answer = {"status": status, "seconds": seconds, "left": len(left), "told": told.read()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
