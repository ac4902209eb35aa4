"""Class prototypes, the rows of the classifier, and how alike their cosines say classes are."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir.nn.losses import l2_normalise
from sbir.types import Params


def prototypes_of(params: Params) -> Float[Array, "c e"]:
  """Returns the prototypes of a network's parameters: the classifier's rows, not normalised."""
  return params["head"]["classifier"]["kernel"].T


def correlation_matrix(
  prototypes: Float[Array, "c e"], *, clip_negative: bool = False
) -> Float[Array, "c c"]:
  """Returns the cosine of every pair of prototypes, in [-1, 1]; no gradient reaches them.

  `clip_negative` sets those below 0 to 0: a negative cosine turns the sign of a teacher's logit
  round, so that a class it ruled out becomes likely. The released code keeps them.

  Source: PSKD (ACM MM 2022), section on prototype-based selective distillation; PSKD@a505f9f
  main_secondstage.py.
  """
  unit = l2_normalise(jax.lax.stop_gradient(prototypes))
  cosines = unit @ unit.T
  return jnp.maximum(cosines, 0.0) if clip_negative else cosines
