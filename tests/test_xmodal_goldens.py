"""XModalViT against numbers computed with the authors' published code (xmodal-vit@11426c9)."""

import ast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir import mesh, trees
from sbir.nn.losses import l2_normalise
from sbir.nn.vit import ViT
from sbir.optim import make_optimizer
from sbir.step import TrainState, make_train_step
from sbir.types import UserError
from tests.paths import GOLDENS, needs_shared
from tests.xmodal_tiny import quick_jit, teacher_task
from xmodal import losses, queue
from xmodal.fusion import Fusion, Student, Teacher
from xmodal.pretrained import convert_student, convert_teacher
from xmodal.views import Recipe

pytestmark = needs_shared


@pytest.fixture(scope="module")
def golden():
  with jax.default_matmul_precision("highest"):
    yield dict(np.load(GOLDENS / "xmodal_a.npz"))


@pytest.fixture(scope="module")
def sizes(golden):
  return ast.literal_eval(str(golden["config"]))


@pytest.fixture(scope="module")
def images(golden):
  return {
    name: golden[theirs].transpose(0, 2, 3, 1)
    for name, theirs in (
      ("photo", "photo"),
      ("sketch", "sketch_q"),
      ("sketch_positive", "sketch_k"),
    )
  }


def state_dict(golden, network):
  return {name.removeprefix(network): x for name, x in golden.items() if name.startswith(network)}


def merged(model, loaded, *inputs):
  fresh = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))["params"]
  return trees.merge(fresh, loaded, what="golden")


@pytest.fixture(scope="module")
def teacher(golden, sizes, images):
  encoder = lambda: ViT(sizes["dim"], sizes["depth"], sizes["num_heads"], sizes["patch_size"])
  fusion = Fusion(
    sizes["fusion_depth"] * sizes["cross_attn_depth"], sizes["fusion_heads"], "sequential"
  )
  model = Teacher(encoder(), encoder(), fusion)
  loaded = convert_teacher(state_dict(golden, "teacher/"), num_heads=3, what="golden").params
  return model, merged(model, loaded, images["photo"], images["sketch"])


@pytest.fixture(scope="module")
def student(golden, sizes, images):
  encoder = ViT(
    sizes["student_dim"], sizes["student_depth"], sizes["student_heads"], sizes["patch_size"]
  )
  model = Student(encoder, sizes["dim"])
  loaded = convert_student(state_dict(golden, "student/"), num_heads=3, what="golden").params
  params = merged(model, loaded, images["photo"])
  return quick_jit(lambda x: model.apply({"params": params}, x))


@pytest.fixture(scope="module")
def fused(teacher, images):
  model, params = teacher
  fuse = quick_jit(lambda sketch: model.apply({"params": params}, images["photo"], sketch))
  anchor, positive = fuse(images["sketch"]), fuse(images["sketch_positive"])
  names = ("fused_photo_q", "fused_sketch_q", "fused_photo_k", "fused_sketch_k")
  return dict(zip(names, (*anchor, *positive), strict=True))


def assert_close(ours, theirs, relative):
  """Compares to a share of the largest entry, as one number far below the rest carries no news."""
  assert np.shape(ours) == np.shape(theirs)
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * np.abs(theirs).max())


@pytest.mark.parametrize(
  ("method", "image", "name"),
  [
    ("encode_photo", "photo", "tokens_photo"),
    ("encode_sketch", "sketch", "tokens_sketch_q"),
  ],
)
def test_the_encoders_give_the_released_tokens(golden, teacher, images, method, image, name):
  model, params = teacher
  encode = quick_jit(lambda x: model.apply({"params": params}, x, method=method))
  assert_close(encode(images[image]), golden[name], 1e-4)


@pytest.mark.parametrize(
  "name", ["fused_photo_q", "fused_sketch_q", "fused_photo_k", "fused_sketch_k"]
)
def test_sequential_fusion_gives_the_released_vectors(golden, fused, name):
  assert_close(fused[name], golden[name], 1e-4)


def test_parallel_fusion_is_another_function(golden, teacher, images):
  model, params = teacher
  parallel = model.clone(fusion=model.fusion.clone(order="parallel"))
  photo, _ = quick_jit(parallel.apply)({"params": params}, images["photo"], images["sketch"])
  assert np.abs(photo - golden["fused_photo_q"]).max() > 1e-3


@pytest.mark.parametrize(
  ("image", "name"), [("photo", "student_photo"), ("sketch", "student_sketch_q")]
)
def test_the_student_gives_the_released_vectors(golden, student, images, image, name):
  assert_close(student(images[image]), golden[name], 1e-4)


def test_the_released_heads_that_are_dead_are_ignored_and_nothing_else_is(golden):
  weights = state_dict(golden, "teacher/")
  with pytest.raises(UserError, match=r"1 of its \d+ entries have no place \(other\.weight"):
    convert_teacher(weights | {"other.weight": np.ones(3, np.float32)}, what="golden")
  with pytest.raises(UserError, match="have no place"):
    convert_student(weights, what="golden")


def started_queue(golden):
  keys = jnp.asarray(golden["queue0"].T)
  return queue.Queue(keys, jnp.full(len(keys), -1), jnp.int32(0))


QUERIES = {"xaqc": lambda query: query, "xaqc_norm": l2_normalise}


@pytest.mark.parametrize("form", QUERIES)
def test_contrastive_logits_are_the_released_ones(golden, fused, form):
  query, key = QUERIES[form](fused["fused_photo_q"]), l2_normalise(fused["fused_sketch_k"])
  logits = losses.xaqc_logits(query, key, golden["queue0"].T)
  assert_close(logits, golden[f"{form}_logits"], 1e-5)


@pytest.mark.parametrize("form", QUERIES)
def test_the_contrastive_loss_is_the_released_one(golden, fused, form):
  query, key = QUERIES[form](fused["fused_photo_q"]), l2_normalise(fused["fused_sketch_k"])
  loss = losses.xaqc(query, key, jnp.arange(len(key)), started_queue(golden))
  assert_close(loss, golden[f"{form}_loss"], 1e-5)


def test_the_queue_after_one_push_is_the_released_one(golden, fused):
  key = l2_normalise(fused["fused_sketch_k"])
  pushed = queue.push(started_queue(golden), key, jnp.arange(len(key)))
  assert_close(pushed.keys.T, golden["queue1"], 1e-5)


def exact_distance_loss(student, teacher):
  """XMRD distance in float64, difference by difference."""

  def relative(points):
    points = points.astype(np.float64)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    return distances / distances[distances > 0].mean()

  gap = np.abs(relative(student) - relative(teacher))
  return np.where(gap < 1, gap**2 / 2, gap - 0.5).mean()


DISTANCES = {
  "xmrd_distance": ("student_photo", "fused_photo_q"),
  "rkd_distance": ("rkd_student", "rkd_teacher"),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_the_distance_loss_is_the_released_one(golden, name):
  # Absolute: the released xmrd_distance is itself 7e-7 (relative 4.9e-5) off its own inputs' exact
  # value, which the next test holds ours to.
  ours = losses.xmrd_distance(*(golden[points] for points in DISTANCES[name]))
  assert abs(ours - golden[name]) < 1e-5


@pytest.mark.parametrize("name", DISTANCES)
def test_the_distance_loss_is_exact_to_float32(golden, name):
  points = [golden[points] for points in DISTANCES[name]]
  assert_close(losses.xmrd_distance(*points), exact_distance_loss(*points), 1e-5)


def test_the_gradient_of_the_distance_loss_is_the_released_one(golden):
  ours = jax.grad(losses.xmrd_distance)(golden["student_photo"], golden["fused_photo_q"])
  np.testing.assert_allclose(ours, golden["xmrd_distance_grad_student_out"], rtol=0, atol=1e-5)


def test_the_angle_loss_is_the_released_one(golden):
  ours = losses.xmrd_angle(golden["rkd_student"], golden["rkd_teacher"])
  assert_close(ours, golden["rkd_angle"], 1e-5)


@pytest.mark.parametrize(
  ("name", "first", "second"),
  [("xmrd_angle_sketch", "sketch", "sketch_positive"), ("xmrd_angle_photo", "photo", "photo")],
)
def test_the_angle_loss_of_whole_networks_is_the_released_one(
  golden, student, fused, images, name, first, second
):
  ours = losses.xmrd_angle(
    jnp.concatenate([student(images[first]), student(images[second])]),
    jnp.concatenate([fused["fused_photo_q"], fused["fused_photo_k"]]),
  )
  assert_close(ours, golden[name], 1e-5)


def test_five_teacher_steps_give_the_released_losses(golden, teacher, images):
  """As released: Adam with L2, query left unnormalised, images left in [0, 1], no instance mask.

  The same batch comes five times; other ids each time keep its own keys in the queue as negatives.
  """
  model, params = teacher
  task = teacher_task(
    model,
    Recipe(mean=0.0, std=1.0),
    queue_size=golden["queue0"].shape[1],
    normalise_query=False,
  )
  optimizer = make_optimizer(
    "adam_l2",
    learning_rate=float(golden["teacher_trace_lr"]),
    weight_decay=float(golden["teacher_trace_weight_decay"]),
    steps=5,
  )
  extra = {"sketch_queue": started_queue(golden)}
  state = TrainState(jnp.int32(0), params, optimizer.init(params), extra, jax.random.key(0))
  state = mesh.put_replicated(state, mesh.make_mesh())
  train_step, trace = make_train_step(task, optimizer), []
  num_pairs = len(images["photo"])
  for step in range(5):
    batch = images | {"id": np.arange(num_pairs, dtype=np.int32) + step * num_pairs}
    state, metrics = train_step(state, {}, mesh.put_batch(batch, mesh.make_mesh()))
    trace.append(float(metrics["loss"]))
  np.testing.assert_allclose(trace, golden["teacher_trace_losses"], rtol=1e-4)
