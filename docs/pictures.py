"""Makes the pictures of the README from what the demos leave.

./launch.sh demo && ./launch.sh demo pskd && .venv/bin/python docs/pictures.py
"""

import io
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs" / "demo"
PICTURES = {  # name here: method, name in its evaluation, width in pixels
  "demo_grid": ("xmodal", "grid.png", 1000),
  "demo_map": ("xmodal", "map.png", 800),
  "demo_partial": ("xmodal", "partial.png", 700),
  "pskd_grid": ("pskd", "grid.png", 1000),
  "pskd_map": ("pskd", "map.png", 800),
}
MOST = 200_000  # bytes each


def main(runs: Path = RUNS, out: Path = HERE) -> None:
  """Writes docs/*.jpg, each as good as fits into MOST bytes."""
  for name, (method, picture, width) in PICTURES.items():
    image = Image.open(runs / method / "evaluation" / picture).convert("RGB")
    image = image.resize((width, round(image.height * width / image.width)), Image.LANCZOS)
    data = next(data for q in range(92, 20, -4) if len(data := as_jpeg(image, q)) < MOST)
    (out / f"{name}.jpg").write_bytes(data)
    print(f"{out.name}/{name}.jpg: {image.width} x {image.height}, {len(data) // 1000} kB")


def as_jpeg(image: Image.Image, quality: int) -> bytes:
  """Returns the bytes of a JPEG file."""
  file = io.BytesIO()
  image.save(file, "JPEG", quality=quality, optimize=True)
  return file.getvalue()


if __name__ == "__main__":
  main(*map(Path, sys.argv[1:]))
