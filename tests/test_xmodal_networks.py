"""What the fusion depends on, and how many parameters the networks have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir.nn.vit import vit
from tests.xmodal_tiny import (
  make_batch,
  make_student,
  make_teacher,
  quick_jit,
  start,
  teacher_task,
)
from xmodal.fusion import Fusion, Student, Teacher

PARTS = ("photo_token", "photo_patches", "sketch_token", "sketch_patches")


def count(model, *sides):
  images = [jnp.zeros((1, side, side, 3)) for side in sides]
  shapes = jax.eval_shape(model.init, jax.random.key(0), *images)
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def random_like(shapes, seed=0):
  draw = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: draw.normal(0, 0.4, leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def parts():
  shapes = {"photo_token": (1, 6), "photo_patches": (4, 6)}
  shapes |= {"sketch_token": (1, 6), "sketch_patches": (4, 6)}
  return random_like({name: jnp.zeros(shape) for name, shape in shapes.items()}, seed=1)


def fuse(params, parts, order, keep=None):
  """Returns z_p and z_s of one pair, of two layers."""
  tokens = [
    jnp.concatenate([parts[f"{name}_token"], parts[f"{name}_patches"]])[None]
    for name in ("photo", "sketch")
  ]
  return Fusion(2, 3, order).apply({"params": params}, *tokens, *(keep or ()))


@pytest.fixture(scope="module")
def fusion_params():
  tokens = jnp.zeros((1, 5, 6))
  return random_like(jax.eval_shape(Fusion(2, 3).init, jax.random.key(0), tokens, tokens))["params"]


def influences(params, parts, order):
  """Returns for z_p, and for z_s, the parts of the input that change it."""
  jacobian = quick_jit(jax.jacobian(lambda parts: fuse(params, parts, order)))(parts)
  return [{name for name in PARTS if np.abs(of[name]).max() > 1e-6} for of in jacobian]


def test_parallel_fusion_shows_each_token_the_other_modalitys_patches_alone(fusion_params, parts):
  of_photo, of_sketch = influences(fusion_params, parts, "parallel")
  assert of_photo == {"photo_token", "sketch_patches"}
  assert of_sketch == {"sketch_token", "photo_patches"}


def test_sequential_fusion_lets_the_photo_token_see_the_updated_sketch_token(fusion_params, parts):
  of_photo, of_sketch = influences(fusion_params, parts, "sequential")
  assert of_photo == set(PARTS)
  assert of_sketch == {"sketch_token", "photo_patches"}


@pytest.mark.parametrize("order", ["parallel", "sequential"])
def test_a_patch_that_is_hidden_is_as_if_it_were_not_there(fusion_params, parts, order):
  keep = np.array([[True, True, False, True]])
  run = quick_jit(lambda parts, keep: fuse(fusion_params, parts, order, keep))
  hidden = run(parts, (keep, keep))
  fewer = {n: part[keep[0]] if "patches" in n else part for n, part in parts.items()}
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    hidden,
    run(fewer, None),
  )


def shuffled_patches(images):
  """Returns 16 px images with their four patches of 8 px in another order."""
  rows = np.concatenate([images[:, 8:], images[:, :8]], axis=1)
  top = np.concatenate([rows[:, :8, 8:], rows[:, :8, :8]], axis=2)
  return np.concatenate([top, rows[:, 8:]], axis=1)


@pytest.fixture(scope="module", params=["parallel", "sequential"])
def fuse_images(request):
  task = teacher_task(make_teacher(request.param))
  params, _ = start(task)
  photo = make_batch(dtype=np.float32)["photo"]

  @quick_jit
  def run(positions, sketch):
    encoder = params["sketch_encoder"]
    encoder = {**encoder, "pos_embed": positions * encoder["pos_embed"]}
    return task.model.apply({"params": {**params, "sketch_encoder": encoder}}, photo, sketch)

  return lambda sketch, positions: np.stack(run(jnp.float32(positions), sketch))


def test_without_positions_the_order_of_the_sketchs_patches_does_not_matter(fuse_images):
  sketch = make_batch(dtype=np.float32)["sketch"]
  flat, in_colour = np.full_like(sketch, 0.7), shuffled_patches(sketch)
  np.testing.assert_array_equal(fuse_images(shuffled_patches(flat), 0.0), fuse_images(flat, 0.0))
  np.testing.assert_allclose(fuse_images(in_colour, 0.0), fuse_images(sketch, 0.0), atol=1e-5)
  assert np.abs(fuse_images(in_colour, 1.0) - fuse_images(sketch, 1.0)).max() > 1e-3


def test_without_positions_all_patches_of_an_all_equal_sketch_are_one_and_the_same():
  task = teacher_task()
  params, _ = start(task)
  params["sketch_encoder"]["pos_embed"] *= 0
  flat = np.full((1, 16, 16, 3), 0.7, np.float32)
  tokens = quick_jit(lambda x: task.model.apply({"params": params}, x, method="encode_sketch"))(
    flat
  )
  np.testing.assert_allclose(tokens[0, 1:], tokens[:1, 1].repeat(4, axis=0), atol=1e-6)


def test_the_fusion_has_as_many_parameters_as_published():
  """A direction has F and G (d^2 + d), LayerNorm (2 d), q, k, v (d^2) and the output (d^2 + d)."""
  width, one_direction = 768, 6 * 768**2 + 5 * 768
  tokens = jnp.zeros((1, 5, width))
  shapes = jax.eval_shape(Fusion(3, 3).init, jax.random.key(0), tokens, tokens)
  size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert size == 3 * 2 * one_direction == 21_256_704


def test_the_published_teacher_is_two_base_vits_and_the_fusion():
  teacher = Teacher(vit("base", 16), vit("base", 16), Fusion(3, 3))
  assert count(teacher, 224, 224) == 2 * 85_798_656 + 21_256_704


@pytest.mark.parametrize(("size", "width"), [("tiny", 192), ("small", 384)])
def test_a_published_student_is_a_vit_a_norm_and_a_projection(size, width):
  encoder = vit(size, 16)
  assert count(Student(encoder, 768), 224) == count(encoder, 224) + 2 * width + width * 768 + 768


@pytest.mark.parametrize("make", [make_student, make_teacher])
def test_bfloat16_compute_keeps_embeddings_and_parameters_in_float32(make):
  model = make(dtype=jnp.bfloat16)
  images = [jnp.zeros((2, 16, 16, 3))] * (1 if make is make_student else 2)
  out, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), *images)
  assert {leaf.dtype for leaf in jax.tree.leaves((out, variables))} == {jnp.dtype("float32")}
