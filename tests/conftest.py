"""Set before anything imports jax: few threads, programs compiled once, quiet libraries."""

import os
from pathlib import Path

import pytest

for module in ("tests.refusals", "tests.pskd_refusals"):
  pytest.register_assert_rewrite(module)  # it holds fixtures, and they assert
CACHE = Path(__file__).resolve().parent.parent / ".pytest_cache" / "jax"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("NPROC", "2")  # XLA's own thread pool
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
# Compiled in two thirds of the time, to slower programs: nearly all of a test's time is compiling.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture(scope="module", autouse=True)
def compiled_in_full(request):
  """What is compared with published numbers, or is a law, is compiled as users have it."""
  if not request.path.stem.endswith(("goldens", "laws")):
    yield
    return
  import jax

  before = jax.config.read("jax_disable_most_optimizations")
  jax.clear_caches()
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.clear_caches()
  jax.config.update("jax_disable_most_optimizations", before)
