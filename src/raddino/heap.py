"""The C library's heap: pages of freed memory kept for the next step instead of being faulted in anew."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
NEVER, MAPPINGS, LARGEST = -1, 65536, 32 << 20
"""For glibc's mallopt: no trimming; how many blocks may be mapped by default; and from which size at most."""


@contextmanager
def kept_pages() -> Iterator[None]:
    """Let this process keep for a while what it frees, and give it back at the end.

    glibc maps large blocks one by one and hands them back to the kernel when they are freed, so that every page of the
    next step's tensors would be faulted in and zeroed anew. With another C library nothing changes.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        libc.mallopt(MMAP_MAX, MAPPINGS)
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
        libc.mallopt(TRIM_THRESHOLD, 2 * LARGEST)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        here = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return here if all(hasattr(here, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")) else None
