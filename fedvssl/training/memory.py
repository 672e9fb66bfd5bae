"""Memory that a training step frees is kept for the next one.

Every step on a CPU allocates and frees the same gigabytes of activations. glibc returns them to the operating system
each time, which hands them out again page by page, emptied: a quarter of the time of a step in float32.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> None:
    """Let this process and those that it forks keep what they free. Does nothing where the C library is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)  # large blocks come from the heap too
    mallopt(M_TRIM_THRESHOLD, -1)  # and the heap never shrinks
