"""Freed memory of a training step, kept for the next step.

Every step on a CPU allocates and frees the same gigabytes of activations. glibc returns them to the operating system
each time and gets them back page by page, emptied. This takes a quarter of a step in float32.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> None:
    """Keep freed memory in this process. Does nothing if the C library is not glibc."""
    if (glibc := _glibc()) is not None:
        glibc.mallopt(M_MMAP_MAX, 0)  # large blocks come from the heap too
        glibc.mallopt(M_TRIM_THRESHOLD, -1)  # and the heap never shrinks by itself


def release_freed_memory(loader: object) -> None:
    """Release kept memory before workers of a `DataLoader`, if any, fork: a step copies each shared page it uses."""
    if getattr(loader, "num_workers", 0) and (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except (OSError, TypeError):
        return None
