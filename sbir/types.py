"""The words the rest is written in: array aliases, batches, the error a user can cause."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray, Shaped

Params = Mapping[str, Any]  # nested string-keyed tree of arrays
Extra = Mapping[str, Any]  # state that is trained on but not by gradient: queues, prototypes
Batch = Mapping[str, Shaped[Array, "b ..."]]  # "photo", "sketch": u8[b, h, w, 3]; "id": i32[b]
Scalar = Float[Array, ""]
Embeddings = Float[Array, "b d"]
Key = PRNGKeyArray  # typed: jax.random.key


class UserError(ValueError):
  """A mistake the user can mend: one line that holds the value, what was expected, the next move.

  `cli.run` prints it without a traceback and exits with status 2. Anything else is our bug.
  """
