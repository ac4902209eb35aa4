"""What tests of exports share: tiny packages, few images to check with, the command in here."""

import importlib.util

import numpy as np
import pytest

from sbir import cli, export, export_images
from sbir.models import from_pretrained
from tests.packages import save_package

LOST = [n for n in ("jax2onnx", "onnx", "onnxruntime") if importlib.util.find_spec(n) is None]
needs_onnx = pytest.mark.skipif(bool(LOST), reason=f"not installed: {', '.join(LOST)}")


def call(*arguments):
  """Runs the command line with few images to check with; returns its exit status."""
  with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
    patch.setattr(export_images, "NUM_PHOTOS", 12)
    patch.setattr(export_images, "NUM_SKETCHES", 4)
    cli.tool(export.main, [str(argument) for argument in arguments])
  return stopped.value.code


def write(tmp_path, architecture, form, *flags, **changes):
  """Saves a tiny package and exports it; returns the model and the path of the file."""
  folder = save_package(tmp_path / "package", architecture, **changes)
  out = tmp_path / "exported"
  assert call("--model", folder, "--format", form, "--out", out, *flags) == 0
  return from_pretrained(folder), out


def refused(capfd, *arguments):
  """Returns the last line on stderr of a command that exits with status 2."""
  assert call(*arguments) == 2
  *_, line = capfd.readouterr().err.splitlines()
  return line


def views(model, num, seed=0):
  """Returns preprocessed images of noise, on the host."""
  side = model.preprocessing.image_size
  pixels = np.random.default_rng(seed).integers(0, 256, (num, side, side, 3)).astype(np.uint8)
  return np.asarray(model.preprocessing.view(pixels))


def near(found, expected):
  """Checks outputs by name, to 1e-4."""
  assert set(found) == set(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-4, err_msg=name)
