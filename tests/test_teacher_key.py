"""One key for the same parameters, another for any that differ."""

import jax.numpy as jnp
import numpy as np
import pytest

from sbir.teacher_key import parameters_sha256

PARAMS = {"b": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "a": np.float32(2)}


def test_the_key_does_not_depend_on_order_or_on_where_the_numbers_lie():
  turned = {"a": jnp.float32(2), "b": {"kernel": jnp.asarray(PARAMS["b"]["kernel"])}}
  strided = np.asfortranarray(PARAMS["b"]["kernel"])
  assert parameters_sha256(PARAMS) == parameters_sha256(turned)
  assert parameters_sha256(PARAMS) == parameters_sha256({**PARAMS, "b": {"kernel": strided}})


@pytest.mark.parametrize(
  "kernel",
  [
    np.nextafter(PARAMS["b"]["kernel"], 9, dtype=np.float32),
    PARAMS["b"]["kernel"].reshape(3, 2),
    PARAMS["b"]["kernel"].astype(np.float64),
    PARAMS["b"]["kernel"].view(np.int32),
  ],
  ids=["number", "shape", "width", "type"],
)
def test_any_other_number_shape_or_type_has_another_key(kernel):
  assert parameters_sha256({**PARAMS, "b": {"kernel": kernel}}) != parameters_sha256(PARAMS)


def test_another_name_is_another_key():
  other = {"a": PARAMS["a"], "b": {"bias": PARAMS["b"]["kernel"]}}
  assert parameters_sha256(other) != parameters_sha256(PARAMS)
