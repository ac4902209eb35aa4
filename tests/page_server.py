"""The page with a stand-in model and index: what it finds is right at once, without training.

  python -m tests.page_server --port 7860

A photo is known here by a sketch of its object, and a drawing finds it by where its lines are.
"""

import sys
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from sbir import cli, serve
from sbir.data.fit import fit_square
from sbir.data.images import as_jpeg
from sbir.data.records import PHOTO, SKETCH
from sbir.data.synthetic import open_synthetic
from sbir.page_search import Searcher

SIDE, GRID = 64, 4  # pixels of the model's square, patches along its side
NUM_PHOTOS = 32


class Hit(NamedTuple):
  photo_id: int
  name: str
  score: float


class LineModel:
  """Embeds a drawing as where its lines are, smoothed."""

  preprocessing = SimpleNamespace(image_size=SIDE, fit="trim")

  def encode_sketches(self, images):
    squares = [fit_square(image, SIDE, "trim") for image in images]
    small = np.stack([fit_square(square, SIDE // 4, "stretch") for square in squares])
    ink = 1 - small[..., 0].reshape(len(images), -1) / 255
    return (ink / np.linalg.norm(ink, axis=1, keepdims=True)).astype(np.float32)

  def attention(self, modality, images):
    return np.tile(np.linspace(0, 1, GRID**2, dtype=np.float32), (len(images), 1))


class ListIndex:
  """An index of the synthetic photos, in lists."""

  def __init__(self, model):
    self._source = open_synthetic("test", num_test=NUM_PHOTOS, size=SIDE)
    records = enumerate(self._source.records)
    self._places = [i for i, record in records if record.modality == PHOTO]
    sketch_of = {r.instance: i for i, r in enumerate(self._source.records) if r.modality == SKETCH}
    self.names = [self._source.records[i].instance + ".jpg" for i in self._places]
    sketches = [self._source.image(sketch_of[name.removesuffix(".jpg")]) for name in self.names]
    self._vectors = model.encode_sketches(sketches)

  @property
  def num_photos(self):
    return len(self.names)

  def search(self, vectors, k):
    scores = vectors @ self._vectors.T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [
      [Hit(int(i), self.names[i], float(row[i])) for i in places]
      for row, places in zip(scores, best, strict=True)
    ]

  def vector(self, photo_id):
    return self._vectors[range(self.num_photos).index(photo_id)]

  def thumbnail(self, photo_id):
    return as_jpeg(self._source.image(self._places[range(self.num_photos).index(photo_id)]))


def main(arguments):
  flags = cli.parser(__doc__)
  flags.add_argument("--port", type=int, default=7860)
  options = flags.parse_args(arguments)
  model = LineModel()
  serve.serve(lambda: Searcher(model, ListIndex(model)), serve.HOST, options.port)


if __name__ == "__main__":
  sys.exit(cli.tool(main))
