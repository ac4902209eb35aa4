"""The words the rest is written in: array aliases, batches, the error a user can cause."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from sbir.user_error import UserError as UserError

Params = Mapping[str, Any]  # nested string-keyed tree of arrays
Extra = Mapping[str, Any]  # state that is trained on but not by gradient: queues, prototypes
Batch = Mapping[str, Shaped[Array, "b ..."]]  # "photo", "sketch": u8[b, h, w, 3]; "id": i32[b]
Scalar = Float[Array, ""]
Embeddings = Float[Array, "b d"]
Key = PRNGKeyArray  # typed: jax.random.key
