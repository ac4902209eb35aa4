"""Gradients summed over micro-batches inside one step, in the memory of a single one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from sbir.types import Params, Scalar

Metrics = dict[str, Scalar]
LossOf = Callable[[Params, Any], tuple[Scalar, Metrics]]


def accumulated(loss_of: LossOf, params: Params, micro_batches: Any) -> tuple[Scalar, Metrics]:
  """Returns the mean of `loss_of(params, micro_batch)` over the leading axis of `micro_batches`.

  When it is differentiated, by `params` alone, each micro-batch's gradient is taken in the same
  pass as its loss and added up, so that never more than one micro-batch's activations exist and
  nothing is computed twice. The metrics get no gradient.
  """

  def mean_over(function: Callable[[Params, Any], Any]) -> Callable[[Params], Any]:
    def scanned(params: Params) -> Any:
      def add(total: Any, micro_batch: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(params, micro_batch)), None

      first = jax.tree.map(lambda leaf: leaf[0], micro_batches)
      shapes = jax.eval_shape(function, params, first)
      zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
      num = len(jax.tree.leaves(micro_batches)[0])
      total, _ = jax.lax.scan(add, zeros, micro_batches)
      return jax.tree.map(lambda leaf: leaf / num, total)

    return scanned

  @jax.custom_vjp
  def mean_loss(params: Params) -> tuple[Scalar, Metrics]:
    return mean_over(loss_of)(params)

  def forward(params: Params) -> tuple[tuple[Scalar, Metrics], Params]:
    return mean_over(jax.value_and_grad(loss_of, has_aux=True))(params)

  def backward(grads: Params, cotangents: tuple[Scalar, Metrics]) -> tuple[Params]:
    return (jax.tree.map(lambda grad: cotangents[0] * grad, grads),)

  mean_loss.defvjp(forward, backward)
  return mean_loss(params)


def split(rows: Shaped[Array, "n ..."], num: int) -> Shaped[Array, "num m ..."]:
  """Returns `num` micro-batches, rows i, i + num, i + 2 num ... making micro-batch i.

  So each takes an equal part of what every device holds, and no row moves between devices.
  """
  return jnp.swapaxes(rows.reshape(-1, num, *rows.shape[1:]), 0, 1)
