"""The kernel's own counts of page faults and resident memory, in a process apart."""

import ctypes
import platform
import subprocess
import sys

import pytest

from raddino import heap

PROGRAM = """
import resource
import psutil, torch
from raddino.heap import kept_pages

PAGES, HALF, ROUNDS = 10240, 5120, 10  # what halves leave behind between other blocks is too small for a whole one

def faults(pages=PAGES):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        torch.ones(pages * 1024)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (ROUNDS * pages)

def resident():
    return psutil.Process().memory_info().rss / (4 * PAGES * 1024)

torch.ones(PAGES * 1024)
print(faults())
start = resident()
with kept_pages():
    faults(HALF)
    print(faults(HALF))
    print(resident() - start)
print(resident() - start)
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left as it is")
def test_pages_stay_inside_and_go_at_the_end():
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, encoding="utf-8", check=True).stdout
    before, inside, held, left, after = map(float, out.split())
    assert before > 0.9
    assert inside < 0.1
    assert held > 0.4
    assert left < 0.1
    assert after > 0.9


def test_errors_pass_through():
    with pytest.raises(KeyError), heap.kept_pages():
        raise KeyError


@pytest.mark.parametrize("loaded", [lambda name: (_ for _ in ()).throw(TypeError()), lambda name: object()])
def test_another_c_library_is_left_alone(monkeypatch, loaded):
    monkeypatch.setattr(ctypes, "CDLL", loaded)
    with heap.kept_pages():
        pass
