"""The angles in all triangles of two sets of points, compared corner by corner from Gram matrices.

At corner i the cosine between j and k is r_ij r_ik (G_ii - G_ij - G_ik + G_jk), with r_ij one over
the distance of i and j. So n^2 d + n^3 operations do, where differences of points take n^3 d; and
one corner's n x n cosines are all that exists at a time, in the backward pass too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from sbir.nn.losses import smooth_l1
from sbir.types import Scalar

Gram = Float[Array, "n n"]

# Corners that XLA is given together: it then adds them up in one pass over n x n sums. Forward and
# backward on two CPU cores with 1, 2, 4 and 8: 225, 197, 192 and 135 ms at n = 512, 0.9, 0.9, 0.8
# and 0.7 ms at n = 64 (all of n x n x n at once: 0.8).
TOGETHER = 8


class Arms(NamedTuple):
  """What is known of the arms from each corner (row) to each point (column)."""

  half: Float[Array, "n n"]  # G_ii / 2 - G_ij
  inverse: Float[Array, "n n"]  # one over the length; 0 of an arm without length


@jax.custom_vjp
def angle_gap(student: Gram, teacher: Gram) -> Scalar:
  """Returns the mean smooth-L1 difference of the cosines over all ordered triples (i, j, k).

  Takes Gram matrices of centred points. A corner with an arm of no length has cosine 0. Where the
  gradient is wanted, it is taken in the same pass; none reaches `teacher`. First derivatives only.
  """

  def add(total: Array, arms: tuple[Arms, Arms]) -> tuple[Array, None]:
    _, _, differences = _corner(student, teacher, *arms)
    return total + jnp.sum(smooth_l1(differences), axis=0), None

  start = jnp.zeros(len(student), student.dtype)
  total, _ = lax.scan(add, start, (_arms(student), _arms(teacher)), unroll=TOGETHER)
  return jnp.sum(total) / len(student) ** 3


def _forward(student: Gram, teacher: Gram) -> tuple[Scalar, Gram]:
  """Returns the value, and its gradient by every entry of the student's Gram matrix.

  With s = clip(cosine - the teacher's), the slope of smooth-L1, and a_jk = s_jk r_ij r_ik, the
  corner i adds a_jk to the gradient by G_jk; minus the sums of a over k and over j, which are
  equal, to that by G_ij; their total to that by G_ii; and through r_ij, by the squared distance of
  i and j, minus r_ij^2 times the sum of s_jk cosine_jk over k.
  """
  num = len(student)
  zero = jnp.zeros((), student.dtype)

  def add(sums: tuple[Array, Array], arms: tuple[Arms, Arms]) -> tuple[tuple, tuple]:
    cosines, scales, differences = _corner(student, teacher, *arms)
    slopes = jnp.clip(differences, -1, 1)
    by_dot = slopes * scales
    columns = (smooth_l1(differences), by_dot, slopes * cosines)
    # One reduction of three arrays: XLA would compute the cosines anew for each of three.
    value, of_arm, of_length = lax.reduce(columns, (zero,) * 3, _add_each, (0,))
    return (sums[0] + value, sums[1] + by_dot), (of_arm, of_length)

  start = (jnp.zeros(num, student.dtype), jnp.zeros_like(student))
  own = _arms(student)
  (value, by_pair), (of_arm, of_length) = lax.scan(
    add, start, (own, _arms(teacher)), unroll=TOGETHER
  )
  by_squared = -(own.inverse**2) * of_length
  by_norm = of_arm.sum(axis=1) + by_squared.sum(axis=1) + by_squared.sum(axis=0)
  gradient = by_pair - 2 * of_arm - 2 * by_squared + jnp.diag(by_norm)
  return jnp.sum(value) / num**3, gradient / num**3


def _backward(gradient: Gram, cotangent: Scalar) -> tuple[Gram, None]:
  return cotangent * gradient, None


angle_gap.defvjp(_forward, _backward)


def _arms(gram: Gram) -> Arms:
  norms = jnp.diagonal(gram)
  squared = norms[:, None] + norms - 2 * gram
  apart = squared > 1e-6 * (norms[:, None] + norms)
  inverse = jnp.where(apart, lax.rsqrt(jnp.where(apart, squared, 1.0)), 0.0)
  return Arms(norms[:, None] / 2 - gram, inverse)


def _corner(student: Gram, teacher: Gram, own: Arms, others: Arms) -> tuple[Array, Array, Array]:
  """Returns of one corner, given its rows of `Arms`: the student's cosines, what they are scaled by
  (r_ij r_ik), and how far they are from the teacher's; each n x n."""
  scales = own.inverse[:, None] * own.inverse
  cosines = (own.half[:, None] + own.half + student) * scales
  teachers = (others.half[:, None] + others.half + teacher) * (
    others.inverse[:, None] * others.inverse
  )
  return cosines, scales, cosines - teachers


def _add_each(one: tuple[Array, ...], other: tuple[Array, ...]) -> tuple[Array, ...]:
  return tuple(a + b for a, b in zip(one, other, strict=True))
