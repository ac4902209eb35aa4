"""XAQC, the contrastive loss with a key queue, and XMRD, relational distillation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sbir.nn.losses import smooth_l1
from sbir.types import Scalar
from xmodal.corners import angle_gap
from xmodal.queue import Queue

TEMPERATURE = 0.07  # paper, and xmodal-vit@11426c9


def xaqc(
  query: Float[Array, "b d"],
  key: Float[Array, "b d"],
  ids: Int[Array, "b"],
  queue: Queue,
  *,
  temperature: float = TEMPERATURE,
  in_batch: bool = False,
) -> Scalar:
  """Returns the InfoNCE loss of each query against its own key and the keys of the queue.

  With `in_batch` the batch's other keys are negatives too. The queue holds keys of past parameters;
  a network that learns fast from random weights runs away from them and collapses, as MoCo
  (arXiv:1911.05722) found without momentum: there, use `in_batch` and a queue of size 0.

  Keys of the query's own instance are no negatives and are masked out (the released code keeps
  them). No gradient reaches `key` or the queue. Give both as `l2_normalise` makes them; the
  released code leaves the query as it is.
  """
  others, other_ids = queue.keys, queue.ids
  if in_batch:
    others, other_ids = jnp.concatenate([others, key]), jnp.concatenate([other_ids, ids])
  logits = xaqc_logits(query, key, others, other_ids == ids[:, None], temperature=temperature)
  return jnp.mean(jax.nn.logsumexp(logits, axis=1) - logits[:, 0])


def xaqc_logits(
  query: Float[Array, "b d"],
  key: Float[Array, "b d"],
  queue_keys: Float[Array, "k d"],
  same: Bool[Array, "b k"] | None = None,
  *,
  temperature: float = TEMPERATURE,
) -> Float[Array, "b k+1"]:
  """Returns [query·key, query·queue] / temperature; -inf where `same` is True. Target: column 0."""
  key, queue_keys = jax.lax.stop_gradient((key, queue_keys))
  positive = jnp.sum(query * key, axis=1, keepdims=True)
  negative = query @ queue_keys.T
  if same is not None:
    negative = jnp.where(same, -jnp.inf, negative)
  return jnp.concatenate([positive, negative], axis=1) / temperature


def in_batch_contrast(
  query: Float[Array, "b d"],
  key: Float[Array, "b d"],
  ids: Int[Array, "b"],
  *,
  temperature: float = TEMPERATURE,
) -> Scalar:
  """Returns InfoNCE in both directions, averaged, the negatives being the rest of the batch.

  Source: CLIP (arXiv:2103.00020). Other rows of the same instance are masked out. Unit vectors in;
  the gradient reaches both. The plain dual encoder that XModalViT is measured against trains on it.
  """
  logits = query @ key.T / temperature
  other_row_same_instance = (ids[:, None] == ids) & ~jnp.eye(len(ids), dtype=bool)
  logits = jnp.where(other_row_same_instance, -jnp.inf, logits)
  diagonal = jnp.diagonal(logits)
  both = jax.nn.logsumexp(logits, axis=1) + jax.nn.logsumexp(logits, axis=0)
  return jnp.mean(both / 2 - diagonal)


def xmrd_distance(student: Float[Array, "b d"], teacher: Float[Array, "b e"]) -> Scalar:
  """Returns how far the student's pairwise distances are from the teacher's.

  Distances are divided by their own mean off the diagonal, so the loss has no unit and does not
  change when either space is rescaled. No gradient reaches `teacher`.

  Source: RKD (arXiv:1904.05068), distance-wise; xmodal-vit@11426c9 src/utils/losses.py.
  Raises: ValueError if b < 2 (one sample has no distance).
  """
  _check_group(student, 2, "a distance needs two samples")
  student_dist = _relative_distances(student)
  teacher_dist = jax.lax.stop_gradient(_relative_distances(teacher))
  return jnp.mean(smooth_l1(student_dist - teacher_dist))


def xmrd_angle(student: Float[Array, "b d"], teacher: Float[Array, "b e"]) -> Scalar:
  """Returns how far the angles in all the student's triangles are from the teacher's.

  For every ordered triple (i, j, k) the cosine at corner i between j and k; a corner whose arm has
  no length has cosine 0. No gradient reaches `teacher`.

  Source: RKD (arXiv:1904.05068), angle-wise; xmodal-vit@11426c9 src/utils/losses.py. The cosines
  come from Gram matrices and are never held all at once: see `xmodal.corners`.
  Raises: ValueError if b < 3.
  """
  _check_group(student, 3, "an angle needs three samples")
  return angle_gap(_centred_gram(student), jax.lax.stop_gradient(_centred_gram(teacher)))


def _check_group(student: Float[Array, "b d"], least: int, why: str) -> None:
  if student.shape[0] < least:
    raise ValueError(f"a batch of {student.shape[0]} is too small: {why}")


def _relative_distances(points: Float[Array, "b d"]) -> Float[Array, "b b"]:
  # From differences. From a Gram matrix, as the source has it, two vectors of one photo that nearly
  # coincide come out as far apart as the root of the rounding: a change of 1e-6 in the vectors then
  # moves the loss by 4e-4. Squares are clamped at 1e-12 before the root, as in the source: the root
  # of zero would have an infinite gradient.
  squared = _squared_distances(points)
  off_diagonal = ~jnp.eye(points.shape[0], dtype=bool)
  distances = jnp.where(off_diagonal, jnp.sqrt(jnp.maximum(squared, 1e-12)), 0.0)
  return distances * (off_diagonal.sum() / distances.sum())


@jax.custom_vjp
def _squared_distances(points: Float[Array, "b d"]) -> Float[Array, "b b"]:
  # Row by row, in the backward pass too: b x b x d differences never exist. At b = 512, d = 768 on
  # two CPU cores 0.13 s and 3 MB; differentiated by jax 2 s, or 0.8 GB where it keeps them.
  return jax.lax.map(lambda point: jnp.sum((point[:, None] - points.T) ** 2, axis=0), points)


def _squared_forward(points: Float[Array, "b d"]) -> tuple[Array, Array]:
  return _squared_distances(points), points


def _squared_backward(points: Float[Array, "b d"], gradient: Float[Array, "b b"]) -> tuple[Array]:
  both = gradient + gradient.T
  return (2 * jax.lax.map(lambda row: row[1] @ (row[0] - points), (points, both)),)


_squared_distances.defvjp(_squared_forward, _squared_backward)


def _centred_gram(points: Float[Array, "b d"]) -> Float[Array, "b b"]:
  # Centring changes no angle, and keeps the cancellation in float32 small when all points share a
  # large mean. So does the rest: a GPU would multiply in less than float32, and 768 squares are
  # rounded seven times less as a sum than as a product's diagonal.
  points = points - points.mean(axis=0)
  gram = jnp.matmul(points, points.T, precision=jax.lax.Precision.HIGHEST)
  diagonal = jnp.arange(len(points))
  return gram.at[diagonal, diagonal].set(jnp.sum(points**2, axis=1))
