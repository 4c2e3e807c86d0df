"""Memory of a training process on a CPU: what was freed is kept for the next step, in huge pages.

A step allocates and frees the same gigabytes again and again. By default the C library gives large blocks back to the
kernel at once, which hands them out again page by page, zeroed: an eighth of a step's time goes into that. Here freed
memory stays with the process, and the kernel is asked for pages of 2 MiB. The peak stays what it was.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MADV_HUGEPAGE = 14
_HUGE = 2 * 2**20


def keep_freed_memory() -> bool:
    """Let this process keep freed memory, in huge pages where the kernel has them; whether that was possible.

    Only with glibc on Linux; elsewhere nothing changes. Call it before large allocations. It reserves address space for
    half of the machine's memory, of which nothing is used until it is needed.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    # −1: never give back the end of the heap; 0: no allocation has a mapping of its own.
    if not (libc.mallopt(_M_TRIM_THRESHOLD, -1) and libc.mallopt(_M_MMAP_MAX, 0)):
        return False
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    reserved = libc.malloc(size)
    if reserved:
        first = -(-reserved // _HUGE) * _HUGE
        libc.madvise(first, (reserved + size - first) // _HUGE * _HUGE, _MADV_HUGEPAGE)
        libc.free(reserved)
    return True
