"""XModalViT as the training loop sees it: teacher, student, and the dual-encoder baseline."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sbir.nn.losses import l2_normalise
from sbir.task import LossOut
from sbir.types import Batch, Embeddings, Extra, Key, Params, Scalar
from xmodal import losses, queue
from xmodal.fusion import Student, Teacher
from xmodal.views import Recipe, fresh_keys, plain_view, stored_keys, training_views

TRAINING_IMAGES = ("photo", "sketch", "sketch_positive")
# What a student sees. XMRD's angle wants both sketches of each pair; a photo is there only once.
OWN_IMAGES = {"photo": ("photo",), "sketch": ("sketch", "sketch_positive")}
# The sketches whose pairs with the photo its teacher must see for that.
PAIRED_SKETCHES = {"photo": ("sketch",), "sketch": ("sketch", "sketch_positive")}
# Where a batch of stored views says which sketches these are.
INDEX = {"sketch": "sketch_index", "sketch_positive": "sketch_positive_index"}
# Where a batch has the teacher's vectors of the pairs with these.
TARGETS = {"sketch": "target", "sketch_positive": "target_positive"}

Views = Mapping[str, Float[Array, "b s s 3"]]


class TeacherTask(NamedTuple):
  """Trains the modality fusion network with XAQC: z_p(p, s_anchor) must find z_s(p, s_positive)."""

  model: Teacher
  recipe: Recipe
  queue_size: int
  temperature: float
  in_batch: bool  # the batch's other keys are negatives too, beside the queue
  normalise_query: bool  # False: as released
  symmetric: bool  # the loss in both directions, averaged; each has its own queue
  both_sketches: bool  # the loss with anchor and positive exchanged too, averaged
  photo_drop: float  # probability that a sketch token sees nothing of its photo in training
  sketch_drop: float  # the same, of a photo token and its sketch

  def init(self, key: Key, batch: Batch) -> tuple[Params, Extra]:
    """Returns the parameters of both encoders and the fusion, and the queue (or two).

    Both branches begin alike, as they do when both start from the same ImageNet weights: what they
    share from the start, they need not learn.
    """
    model_key, sketch_key, photo_key = jax.random.split(key, 3)
    photo, sketch = (jnp.zeros((1, *batch["photo"].shape[1:])) for _ in range(2))
    params = twin_branches(self.model.init(model_key, photo, sketch)["params"])
    width = self.model.photo_encoder.width
    extra = {"sketch_queue": queue.start(sketch_key, self.queue_size, width)}
    if self.symmetric:
      extra["photo_queue"] = queue.start(photo_key, self.queue_size, width)
    return params, extra

  def frozen(self, key: Key, batch: Batch) -> Params:
    """Returns nothing: the teacher has no teacher."""
    return {}

  def loss(
    self, params: Params, extra: Extra, frozen: Params, batch: Batch, key: Key
  ) -> tuple[Scalar, LossOut]:
    """Returns XAQC; the photo is encoded once, sketches that get a gradient both in one batch."""
    view_key, photo_key, sketch_key = jax.random.split(key, 3)
    views = _fresh_views(view_key, batch, TRAINING_IMAGES, self.recipe)
    apply = lambda method, *inputs: self.model.apply({"params": params}, *inputs, method=method)
    photo = apply("encode_photo", views["photo"])
    encode = lambda sketches: apply("encode_sketch", sketches)
    if self.symmetric or self.both_sketches:
      sketches = jnp.concatenate([views["sketch"], views["sketch_positive"]])
      anchor, positive = jnp.split(encode(sketches), 2)
    else:  # no gradient reaches the positive: in one batch it would be differentiated for nothing
      anchor, positive = encode(views["sketch"]), encode(views["sketch_positive"])
    keep = (
      _keep(photo_key, photo, self.photo_drop),
      _keep(sketch_key, anchor, self.sketch_drop),
    )
    fuse = lambda sketch: apply("fuse", photo, sketch, *keep)
    of_anchor, of_positive = fuse(anchor), fuse(positive)
    query, key = of_anchor[0], of_positive[1]
    loss = self._contrast(query, key, batch, extra)
    if self.both_sketches:
      loss = (loss + self._contrast(of_positive[0], of_anchor[1], batch, extra)) / 2
    query, key = l2_normalise(query), l2_normalise(key)
    pushed = {"sketch_queue": queue.push(extra["sketch_queue"], key, batch["id"])}
    if self.symmetric:
      pushed["photo_queue"] = queue.push(extra["photo_queue"], query, batch["id"])
    return loss, LossOut(pushed, {"positive_cosine": jnp.mean(jnp.sum(query * key, axis=1))})

  def _contrast(self, query: Embeddings, key: Embeddings, batch: Batch, extra: Extra) -> Scalar:
    """Returns XAQC of photo vectors against sketch vectors, and if `symmetric` of the reverse."""
    unit_query, key = l2_normalise(query), l2_normalise(key)
    query = unit_query if self.normalise_query else query
    loss = self._xaqc(query, key, batch, extra["sketch_queue"])
    if self.symmetric:
      loss = (loss + self._xaqc(key, unit_query, batch, extra["photo_queue"])) / 2
    return loss

  def _xaqc(self, query: Embeddings, key: Embeddings, batch: Batch, keys: queue.Queue) -> Scalar:
    settings = {"temperature": self.temperature, "in_batch": self.in_batch}
    return losses.xaqc(query, key, batch["id"], keys, **settings)

  def embed(self, params: Params, batch: Batch) -> dict[str, Embeddings]:
    """Returns the unit fused vectors {"photo": z_p, "sketch": z_s} of the pairs in `batch`."""
    views = [plain_view(batch[name], self.recipe) for name in ("photo", "sketch")]
    fused = self.model.apply({"params": params}, *views)
    return {name: l2_normalise(z) for name, z in zip(("photo", "sketch"), fused, strict=True)}

  def match(self, params: Params, frozen: Params, batch: Batch) -> tuple[Embeddings, Embeddings]:
    """Returns (z_s, z_p): the sketch's fused vector must find the photo's."""
    fused = self.embed(params, batch)
    return fused["sketch"], fused["photo"]


class StudentTask(NamedTuple):
  """Distils the teacher's fused vectors into a small encoder of one modality.

  A batch that says which stored "view" it is of is seen so, any other in views drawn anew. Where it
  brings the teacher's vectors ("target", of a sketch student's "target_positive" too), these are
  used and the teacher does not run: neither its parameters nor the other modality are needed.
  """

  modality: str  # "photo" or "sketch"
  model: Student
  teacher: Teacher
  teacher_params: Params
  recipe: Recipe
  queue_size: int
  temperature: float
  in_batch: bool  # as the teacher's
  target: str  # whose fused vector to match: "own", or the teacher's "photo" (released) or "sketch"
  both_sketches: bool  # XAQC of both sketches of a pair, not of the anchor alone
  xaqc: float  # weights of the three terms
  distance: float
  angle: float
  seed: int = 0  # of stored views

  def init(self, key: Key, batch: Batch) -> tuple[Params, Extra]:
    """Returns the student's parameters and the queue of teacher vectors."""
    model_key, queue_key = jax.random.split(key)
    image = jnp.zeros((1, *batch[self.modality].shape[1:]))
    params = self.model.init(model_key, image)["params"]
    return params, {"queue": queue.start(queue_key, self.queue_size, self.model.embed_dim)}

  def frozen(self, key: Key, batch: Batch) -> Params:
    """Returns the teacher's parameters, {} where there are none as no batch needs them."""
    return self.teacher_params

  def loss(
    self, params: Params, extra: Extra, frozen: Params, batch: Batch, key: Key
  ) -> tuple[Scalar, LossOut]:
    """Returns the weighted sum of XAQC, XMRD distance and XMRD angle against the same views."""
    b, pairs = len(batch["id"]), self._pairs(batch, key)
    own = [pair[self.modality] for pair in pairs]
    points = self.model.apply({"params": params}, jnp.concatenate(own))
    targets = self._targets(frozen, batch, pairs)
    parts = {
      "xaqc": self._xaqc(points, targets, batch, extra["queue"]),
      "xmrd_distance": losses.xmrd_distance(points[:b], targets[:b]),
      "xmrd_angle": losses.xmrd_angle(points, targets),
    }
    weights = (self.xaqc, self.distance, self.angle)
    loss = sum(weight * part for weight, part in zip(weights, parts.values(), strict=True))
    pushed = queue.push(extra["queue"], l2_normalise(targets[:b]), batch["id"])
    return loss, LossOut({"queue": pushed}, parts)

  def _xaqc(
    self,
    points: Float[Array, "m*b d"],
    targets: Float[Array, "m*b d"],
    batch: Batch,
    keys: queue.Queue,
  ) -> Scalar:
    num = len(points) if self.both_sketches else len(batch["id"])
    query, key = l2_normalise(points[:num]), l2_normalise(targets[:num])
    ids = jnp.tile(batch["id"], num // len(batch["id"]))
    settings = {"temperature": self.temperature, "in_batch": self.in_batch}
    return losses.xaqc(query, key, ids, keys, **settings)

  def _pairs(self, batch: Batch, key: Key) -> list[Views]:
    """Returns the views of each pair that the losses look at, without what nobody looks at where
    the teacher's vectors are in the batch."""
    seen = (self.modality,) if "target" in batch else ("photo", "sketch")
    fresh, pairs = fresh_keys(key, len(batch["id"])), []
    for sketch in PAIRED_SKETCHES[self.modality]:
      keys = {"photo": fresh["photo"], "sketch": fresh[sketch]}
      if "view" in batch:
        keys = stored_keys(self.seed, batch[INDEX[sketch]], batch["view"])
      images = {name: batch[sketch if name == "sketch" else name] for name in seen}
      pairs.append(training_views(keys, images, self.recipe))
    return pairs

  def _targets(self, frozen: Params, batch: Batch, pairs: Sequence[Views]) -> Float[Array, "m*b d"]:
    """Returns the teacher's vectors of each of m pairs, fixed."""
    if "target" in batch:
      stored = [batch[TARGETS[sketch]] for sketch in PAIRED_SKETCHES[self.modality][: len(pairs)]]
      return jax.lax.stop_gradient(jnp.concatenate(stored))
    apply = lambda method, *inputs: self.teacher.apply({"params": frozen}, *inputs, method=method)
    photos = [pair["photo"] for pair in pairs]
    if "view" not in batch:  # of a fresh photo all pairs have the same view: it is encoded once
      photos = photos[:1]
    photo = apply("encode_photo", jnp.concatenate(photos))
    photo = jnp.concatenate([photo] * (len(pairs) // len(photos)))
    sketch = apply("encode_sketch", jnp.concatenate([pair["sketch"] for pair in pairs]))
    fused = apply("fuse", photo, sketch)
    return jax.lax.stop_gradient(fused[target_branch(self.modality, self.target)])

  def embed(self, params: Params, batch: Batch) -> dict[str, Embeddings]:
    """Returns {modality: unit vectors} of the images of the student's modality."""
    view = plain_view(batch[self.modality], self.recipe)
    return {self.modality: l2_normalise(self.model.apply({"params": params}, view))}

  def match(self, params: Params, frozen: Params, batch: Batch) -> tuple[Embeddings, Embeddings]:
    """Returns (student, teacher): the student's output must find the teacher's fused vector."""
    names = () if "target" in batch else ("photo", "sketch")
    views = {name: plain_view(batch[name], self.recipe) for name in names}
    targets = self._targets(frozen, batch, [views])
    return self.embed(params, batch)[self.modality], targets


class DualEncoderTask(NamedTuple):
  """The baseline: two students trained on the labels alone, in-batch contrast, no teacher."""

  model: Student  # one architecture, two sets of parameters
  recipe: Recipe
  temperature: float

  def init(self, key: Key, batch: Batch) -> tuple[Params, Extra]:
    """Returns {"photo": parameters, "sketch": parameters}, equal at first, and no extra state."""
    params = self.model.init(key, jnp.zeros((1, *batch["photo"].shape[1:])))["params"]
    return {"photo": params, "sketch": params}, {}

  def frozen(self, key: Key, batch: Batch) -> Params:
    """Returns nothing: there is no teacher."""
    return {}

  def loss(
    self, params: Params, extra: Extra, frozen: Params, batch: Batch, key: Key
  ) -> tuple[Scalar, LossOut]:
    """Returns InfoNCE between photos and sketches in both directions."""
    views = _fresh_views(key, batch, ("photo", "sketch"), self.recipe)
    photo, sketch = (
      l2_normalise(self.model.apply({"params": params[name]}, views[name]))
      for name in ("photo", "sketch")
    )
    loss = losses.in_batch_contrast(sketch, photo, batch["id"], temperature=self.temperature)
    return loss, LossOut({}, {"positive_cosine": jnp.mean(jnp.sum(photo * sketch, axis=1))})

  def embed(self, params: Params, batch: Batch) -> dict[str, Embeddings]:
    """Returns unit vectors of the photos and sketches that `batch` holds."""
    return {
      name: l2_normalise(
        self.model.apply({"params": params[name]}, plain_view(batch[name], self.recipe))
      )
      for name in ("photo", "sketch")
      if name in batch
    }

  def match(self, params: Params, frozen: Params, batch: Batch) -> tuple[Embeddings, Embeddings]:
    """Returns (sketch, photo)."""
    embedded = self.embed(params, batch)
    return embedded["sketch"], embedded["photo"]


def twin_branches(params: Params) -> Params:
  """Returns a teacher's parameters with the photo branch's values in the sketch branch too."""
  fusion = params["fusion"]
  twins = {n.replace("photo", "sketch"): p for n, p in fusion.items() if n.startswith("photo")}
  return {**params, "sketch_encoder": params["photo_encoder"], "fusion": {**fusion, **twins}}


def target_branch(modality: str, target: str) -> int:
  """Returns whose fused vector a student of `modality` is to match: 0 for z_p, 1 for z_s."""
  return ("photo", "sketch").index(modality if target == "own" else target)


def _fresh_views(
  key: Key, batch: Batch, names: Sequence[str], recipe: Recipe
) -> dict[str, Float[Array, "b s s 3"]]:
  keys = fresh_keys(key, len(batch["id"]))
  return training_views(keys, {name: batch[name] for name in names}, recipe)


def _keep(key: Key, tokens: Float[Array, "b n d"], drop: float) -> Bool[Array, "b n-1"] | None:
  """Returns which patches may be looked at: of a pair all, or with probability `drop` none."""
  if not drop:
    return None
  shown = jax.random.bernoulli(key, 1 - drop, (tokens.shape[0], 1))
  return jnp.broadcast_to(shown, (tokens.shape[0], tokens.shape[1] - 1))
