"""embed_images: order, padding, one device or several, and what it refuses."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir.embed import embed_images
from tests.lazy_results import Lazy
from tests.paths import REPO


@jax.jit
def first_pixel(image):
  """Returns the first pixel of each image: an embedding that names it."""
  return image[:, 0, 0, :].astype(jnp.float32)


def batches(indices, batch_size, poison=0):
  """Returns evaluation batches whose image k has first pixel (k, k + 1, 7); padding is `poison`."""
  made = []
  for start in range(0, len(indices), batch_size):
    part = np.array(indices[start : start + batch_size])
    mask = np.arange(batch_size) < len(part)
    index = np.pad(part, (0, batch_size - len(part)), mode="edge")
    image = np.zeros((batch_size, 2, 2, 3), np.uint8)
    image[:, 0, 0] = np.stack([index, index + 1, np.full_like(index, 7)], axis=1)
    image[~mask] = poison
    made.append({"image": image, "mask": mask, "index": index.astype(np.int32)})
  return made


def expected(indices):
  return np.array([[k, k + 1, 7] for k in indices], np.float32)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 20])
def test_each_row_is_the_embedding_of_its_index_and_padding_is_dropped(batch_size):
  indices = list(range(5, 13))
  result = embed_images(first_pixel, batches(indices, batch_size, poison=99), indices)
  assert result.dtype == np.float32
  np.testing.assert_array_equal(result, expected(indices))


def test_rows_follow_the_indices_asked_for_whatever_order_the_batches_come_in():
  indices = [9, 2, 30, 4, 17]
  shuffled = batches([30, 4, 9, 17, 2], 2)
  np.testing.assert_array_equal(
    embed_images(first_pixel, shuffled[::-1], indices), expected(indices)
  )


def test_a_mesh_gives_the_same_rows_though_a_batch_does_not_divide_by_its_devices():
  code = """if True:
    import numpy as np
    from sbir.embed import embed_images
    from sbir.mesh import make_mesh
    from tests.test_embed import batches, expected, first_pixel
    mesh = make_mesh()
    assert mesh.size == 4
    for batch_size in (3, 4, 5):
      result = embed_images(first_pixel, batches(range(7), batch_size), range(7), mesh=mesh)
      np.testing.assert_array_equal(result, expected(range(7)))
  """
  flags = "--xla_force_host_platform_device_count=4"
  environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
  subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO, env=environment)


def test_the_next_batch_is_sent_before_the_last_one_is_fetched():
  events = []

  def embed(image):
    events.append(f"send {int(image[0, 0, 0, 0])}")
    return Lazy(int(image[0, 0, 0, 0]), events)

  embed_images(embed, batches([0, 1, 2], 1), [0, 1, 2])
  assert events == ["send 0", "send 1", "fetch 0", "send 2", "fetch 1", "fetch 2"]


@pytest.mark.parametrize(
  ("sent", "asked", "message"),
  [
    ([0, 1], [0, 1, 2], "1 of 3 images never came"),
    ([], [0], "1 of 1 images never came"),
    ([0, 1, 5], [0, 1], "index 5 was not asked for"),
    ([0, 1, 0], [0, 1], "came twice"),
  ],
)
def test_batches_that_do_not_hold_each_index_once_are_refused(sent, asked, message):
  with pytest.raises(ValueError, match=message):
    embed_images(first_pixel, batches(sent, 2), asked)
