"""What names a network's parameters for good: the same numbers, the same key."""

import hashlib

import numpy as np

from sbir import trees
from sbir.types import Params


def parameters_sha256(params: Params) -> str:
  """Returns the SHA-256 of the names, types, shapes and numbers of all parameters, by name."""
  digest = hashlib.sha256()
  for name, leaf in sorted(trees.flatten(params).items()):
    array = np.ascontiguousarray(leaf)
    digest.update(f"{name} {array.dtype} {np.shape(leaf)}\n".encode())
    digest.update(array.view(np.uint8).data if array.size else b"")
  return digest.hexdigest()
