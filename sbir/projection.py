"""Embeddings laid out in the plane. The only file that imports scikit-learn."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from sbir.retrieval.ranking import prepare

PERPLEXITY = 30.0  # t-SNE's usual number of neighbours
STEPS = 500  # half of the usual: 2000 points take 5 s of one core, and the groups are the same


class Projection(NamedTuple):
  """Points in the plane, and which embedding each is."""

  points: Float[np.ndarray, "n 2"]
  is_query: Bool[np.ndarray, "n"]
  row: Int[np.ndarray, "n"]  # among the queries or among the gallery

  def labels(
    self, query_label: Shaped[np.ndarray, "q"], gallery_label: Shaped[np.ndarray, "g"]
  ) -> Shaped[np.ndarray, "n"]:
    """Returns the label of each point, from those of both sides."""
    rows = self.row[self.is_query], self.row[~self.is_query]
    return np.concatenate([np.asarray(query_label)[rows[0]], np.asarray(gallery_label)[rows[1]]])

  def links(self, target: Int[np.ndarray, "q"]) -> Int[np.ndarray, "l 2"]:
    """Returns the points (sketch, photo) to be joined, those that are both shown; `target` is the
    gallery row that belongs to each query."""
    place_of = {int(row): i for i, row in enumerate(self.row) if not self.is_query[i]}
    queries = [(i, int(target[self.row[i]])) for i in np.flatnonzero(self.is_query)]
    found = [(i, place_of[row]) for i, row in queries if row in place_of]
    return np.array(found, int).reshape(-1, 2)


def project(
  query: Shaped[np.ndarray, "q d"],
  gallery: Shaped[np.ndarray, "g d"],
  *,
  max_points: int = 2000,
  seed: int = 0,
) -> Projection:
  """Returns a t-SNE of the directions of both sides together, of at most `max_points` of them.

  Each side gets half of the points if it has that many; which ones is drawn from `seed`. Nearby
  points are near in the embedding space; distances between groups mean little.

  Raises: UserError on embeddings that are not finite or not of one width.
  """
  from sklearn.manifold import TSNE
  from threadpoolctl import threadpool_limits

  embedded = prepare(query, gallery)
  rng = np.random.default_rng(seed)
  num_queries = _share(len(query), len(gallery), max_points)
  num_gallery = min(len(gallery), max_points - num_queries)
  query_row = np.sort(rng.permutation(len(query))[:num_queries])
  gallery_row = np.sort(rng.permutation(len(gallery))[:num_gallery])
  distinct = embedded.gallery_row  # equal photos are kept once
  place = gallery_row if distinct is None else distinct[gallery_row]
  both = np.concatenate([embedded.query[query_row], embedded.gallery[place]])
  norms = np.linalg.norm(both, axis=1, keepdims=True)
  both = (both / np.where(norms > 0, norms, 1)).astype(np.float32)
  perplexity = max(1.0, min(PERPLEXITY, (len(both) - 1) / 3))
  start = "pca" if min(both.shape) >= 2 and (both != both[0]).any() else "random"
  method = TSNE(perplexity=perplexity, init=start, random_state=seed, max_iter=STEPS)
  is_query = np.arange(len(both)) < num_queries
  with threadpool_limits(1):  # more wait for each other: 448 points beside another job 9 s, not 2
    points = method.fit_transform(both)
  return Projection(points, is_query, np.concatenate([query_row, gallery_row]))


def _share(num_queries: int, num_gallery: int, max_points: int) -> int:
  """Returns how many queries to take, so that both sides get half if they have it."""
  return min(num_queries, max(max_points // 2, max_points - num_gallery))
