"""Keeps the memory that a program on the CPU has freed, for its next run."""

import ctypes
import importlib.util
import os
import platform
from pathlib import Path

# Numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
PAD = 64 * 2**20  # bytes asked of the system beyond what is needed
MOST_HELD = 1 / 3  # of the machine's memory; with it the next step's temporaries may take the rest
MADV_HUGEPAGE = 14  # of Linux's mman.h

# What jax brings along for a GPU or a TPU; where it finds neither of them, it has only the CPU.
ACCELERATOR_PLUGINS = ("jax_plugins", "libtpu")


def keep_freed_on_cpu() -> None:
  """Calls `keep_freed` where jax will compute on the CPU: asked to, or with nothing else installed.

  It must come before jax has a backend: to XLA's threads, once started, malloc has already given
  memory of their own, where it asks the system for every large block.
  """
  asked = os.environ.get("JAX_PLATFORMS")
  if asked == "cpu" or not (asked or any(map(importlib.util.find_spec, ACCELERATOR_PLUGINS))):
    keep_freed()


def keep_freed() -> None:
  """Makes malloc keep what is freed, for good; does nothing where the C library is not glibc.

  XLA on the CPU allocates all of a step's temporaries at its start and frees them at its end.
  Large blocks glibc takes from the system and gives back each time, and the system clears them
  page by page: of a ViT-Ti/16 step of 16 images 185 000 page faults and a sixth of its time
  (benchmarks/RESULTS.md).
  """
  if not _is_glibc():
    return
  mallopt = ctypes.CDLL(None).mallopt
  mallopt(M_MMAP_MAX, 0)
  mallopt(M_TRIM_THRESHOLD, -1)  # never
  mallopt(M_TOP_PAD, PAD)
  mallopt(M_ARENA_MAX, 1)  # XLA's threads each with memory of their own would find none of it
  _reserve()


def make_room() -> None:
  """Gives back what is free where the process holds more than MOST_HELD of the machine's memory.

  Before a step: the temporaries of a program find no place where those of another were, or a piece
  of one still lies, and go elsewhere; of a large network both kept would be too much.
  """
  if _share_held() > MOST_HELD:
    give_back()


def give_back() -> None:
  """Gives the system, once, what is free now; what is taken next may be huge pages again."""
  if _is_glibc():
    ctypes.CDLL(None).malloc_trim(0)
    _reserve()


def _reserve() -> None:
  """Grows the heap by MOST_HELD of the machine's memory, in addresses alone, and lets the system
  back all of it with huge pages.

  A ViT-B teacher's step that begins with its 6.4 GB given back has 18 000 page faults then instead
  of 1.7 million.
  """
  libc = ctypes.CDLL(None)
  libc.malloc.restype = ctypes.c_void_p
  size = int(MOST_HELD * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
  libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size))))
  for begin, end in _heap():
    libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_HUGEPAGE)


def _heap() -> list[tuple[int, int]]:
  """Returns the addresses that malloc has grown into, as (first, behind the last)."""
  try:
    lines = Path("/proc/self/maps").read_text().splitlines()
  except OSError:  # not Linux
    return []
  ranges = [line.split()[0].split("-") for line in lines if line.endswith("[heap]")]
  return [(int(begin, 16), int(end, 16)) for begin, end in ranges]


def _share_held() -> float:
  """Returns the share of the machine's memory that this process holds; 0 where it is not known."""
  try:
    resident = int(Path("/proc/self/statm").read_text().split()[1])
  except OSError:  # not Linux
    return 0.0
  return resident / os.sysconf("SC_PHYS_PAGES")


def _is_glibc() -> bool:
  return platform.libc_ver()[0] == "glibc"
