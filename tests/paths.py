"""Where the shared test material lies; tests that need it skip where it is absent."""

from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SHARED = REPO.parent / "shared"
GOLDENS = SHARED / "goldens"
DATA = SHARED / "data"

needs_shared = pytest.mark.skipif(
  not SHARED.is_dir(), reason=f"the shared goldens and images are not at {SHARED}"
)
