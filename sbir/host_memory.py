"""Keeps the memory that a program on the CPU has freed, for its next run."""

import ctypes
import platform

# Numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
PAD = 64 * 2**20  # bytes asked of the system beyond what is needed


def keep_freed() -> None:
  """Makes malloc keep what is freed, for good; does nothing where the C library is not glibc.

  XLA on the CPU allocates all of a step's temporaries at its start and frees them at its end.
  Large blocks glibc takes from the system and gives back each time, and the system clears them
  page by page: of a ViT-Ti/16 step of 16 images 270 000 page faults and a seventh of its time
  (benchmarks/RESULTS.md). The process keeps as much memory as it has ever used.
  """
  if platform.libc_ver()[0] != "glibc":
    return
  mallopt = ctypes.CDLL(None).mallopt
  mallopt(M_MMAP_MAX, 0)
  mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
  mallopt(M_TOP_PAD, PAD)
  mallopt(M_ARENA_MAX, 1)  # XLA's threads each with memory of their own would find none of it
