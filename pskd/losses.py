"""The three losses of PSKD, each of a micro-batch of one modality; weights 1:1:1 as released."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sbir.types import Scalar

SMOOTHING = 0.1


def smoothed_cross_entropy(
  logits: Float[Array, "b c"], labels: Int[Array, "b"], smoothing: float = SMOOTHING
) -> Scalar:
  """Returns the mean cross-entropy with 1 - smoothing on the label and the rest on the others.

  Each other class gets smoothing / (c - 1); optax and torch spread over all c classes, the label
  too. Source: PSKD@a505f9f losses.py; stage 1's only loss (L_CLS) and stage 2's L_CE.
  """
  num_classes = logits.shape[-1]
  log_p = jax.nn.log_softmax(logits)
  own = jnp.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
  others = log_p.sum(axis=-1) - own
  return -jnp.mean((1 - smoothing) * own + smoothing / max(num_classes - 1, 1) * others)


def selective_targets(
  teacher_logits: Float[Array, "b c"],
  labels: Int[Array, "b"],
  correlation: Float[Array, "c c"] | None,
) -> Float[Array, "b c"]:
  """Returns softmax(teacher logits x the label's row of the correlation matrix); no gradient.

  So the teacher says little about classes unlike the true one, however sure it is. Without a
  matrix: the teacher's own probabilities, plain distillation. Temperature 1, no centring.
  """
  if correlation is not None:
    teacher_logits = teacher_logits * correlation[labels]
  return jax.lax.stop_gradient(jax.nn.softmax(teacher_logits))


def selective_distillation(
  student_logits: Float[Array, "b c"], targets: Float[Array, "b c"]
) -> Scalar:
  """Returns L_SKD, the mean cross-entropy of the student to `selective_targets`."""
  return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(student_logits), axis=-1))


def instance_adaptive(
  prototypes: Float[Array, "c e"],
  bottleneck: Float[Array, "b e"],
  labels: Int[Array, "b"],
  *,
  group: int = 0,
  smoothing: float = SMOOTHING,
) -> Scalar:
  """Returns L_ILA: the prototype of each sample's class must find that sample in its group.

  Smoothed cross-entropy over the samples of the group (consecutive rows; 0: all), target the
  sample itself. Others of the same class count as negatives, as released. The prototypes are raw,
  the bottleneck vectors unit, no temperature; the gradient reaches both.

  Source: PSKD@761f435 main_secondstage.py (an earlier commit compared prototypes only: a bug).
  """
  group = group or len(labels)
  vectors = bottleneck.reshape(-1, group, bottleneck.shape[-1])
  of_labels = prototypes[labels.reshape(-1, group)]
  scores = jnp.einsum("gie,gje->gij", of_labels, vectors)
  own = jnp.broadcast_to(jnp.arange(group), scores.shape[:2])
  return smoothed_cross_entropy(scores, own, smoothing)
