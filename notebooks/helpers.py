"""What the notebooks need around the toolkit: its packages installed, and images in a row."""

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
from IPython.display import display
from PIL import Image

GAP = 6  # pixels between images


def install(*files: str) -> None:
  """Installs exactly what requirement files pin; does nothing where it is there already.

  Where there is an NVIDIA GPU, with what jax needs on it.
  """
  if shutil.which("nvidia-smi"):
    files = (*files, "requirements-cuda.txt")
  if all(_is_there(line) for file in files for line in _pins(file)):
    print("everything is there")
    return
  options = [word for file in files for word in ("-r", file)]
  subprocess.run([sys.executable, "-m", "pip", "install", "-q", *options], check=True)
  print("installed; if the machine asks for it, restart the runtime and run this cell again")


def row(images: list[np.ndarray], height: int = 110) -> None:
  """Shows images (height, width, 3; uint8) side by side, all of one height."""
  pictures = [Image.fromarray(np.asarray(image)) for image in images]
  pictures = [p.resize((round(p.width * height / p.height), height)) for p in pictures]
  sheet = Image.new("RGB", (sum(p.width + GAP for p in pictures) - GAP, height), "white")
  left = 0
  for picture in pictures:
    sheet.paste(picture, (left, 0))
    left += picture.width + GAP
  display(sheet)


def _pins(file: str) -> list[str]:
  return [line for line in Path(file).read_text().split("\n") if "==" in line and line[0] != "#"]


def _is_there(pin: str) -> bool:
  name, version = pin.split("==")
  try:
    return metadata.version(name.split("[")[0]) == version
  except metadata.PackageNotFoundError:
    return False
