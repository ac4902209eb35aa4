"""PSKD as the training loop sees it: the fine-tuned teacher, and the student that distils it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pskd import losses
from pskd.model import Output, TwoTokenNet
from pskd.prototypes import correlation_matrix, prototypes_of
from pskd.views import Recipe, plain_view, stored_keys, training_view
from sbir.accumulate import Metrics, accumulated, split
from sbir.nn.losses import l2_normalise
from sbir.task import LossOut
from sbir.types import Batch, Embeddings, Extra, Key, Params, Scalar

STREAMS = ("photo", "sketch")
FEATURES = ("fusion", "mean", "head")


class Batching(NamedTuple):
  """How a batch of photos and a batch of sketches become micro-batches of equal size.

  Photos make `accumulation` micro-batches and sketches accumulation / skt_factor; every one counts
  the same. With skt_factor 2 the loss is 2/3 photos + 1/3 sketches, as published.
  """

  accumulation: int = 1
  skt_factor: int = 1  # photos in a batch for each sketch


class TeacherTask(NamedTuple):
  """Stage 1: fine-tunes the network to classify photos and sketches of the seen classes."""

  model: TwoTokenNet
  recipe: Recipe
  image_size: int
  batching: Batching
  smoothing: float

  def init(self, key: Key, batch: Batch) -> tuple[Params, Extra]:
    """Returns random parameters and no extra state."""
    return init_net(self.model, key, self.image_size), {}

  def frozen(self, key: Key, batch: Batch) -> Params:
    """Returns nothing: the teacher has no teacher."""
    return {}

  def loss(
    self, params: Params, extra: Extra, frozen: Params, batch: Batch, key: Key
  ) -> tuple[Scalar, LossOut]:
    """Returns L_CLS, the label-smoothed cross-entropy."""

    def of_micro_batch(params: Params, micro_batch: Batch) -> tuple[Scalar, Metrics]:
      out = self.model.apply({"params": params}, self._view(micro_batch))
      labels = micro_batch["label"]
      loss = losses.smoothed_cross_entropy(out.logits, labels, self.smoothing)
      return loss, {"accuracy": accuracy(out, labels)}

    return _mean_loss(of_micro_batch, params, batch, _fresh_keys(key, batch), self.batching)

  def _view(self, micro_batch: Batch) -> jax.Array:
    return training_view(micro_batch["key"], micro_batch["image"], self.recipe, self.image_size)

  def embed(self, params: Params, batch: Batch) -> dict[str, Embeddings]:
    """Returns the unit fusion tokens of the photos and sketches that `batch` holds."""
    return embed_both(self.model, params, batch, self.recipe)


class StudentTask(NamedTuple):
  """Stage 2: L = L_SKD + L_CE + L_ILA of each micro-batch, the teacher's logits filtered by the
  correlation matrix of the student's own prototypes."""

  model: TwoTokenNet
  teacher: TwoTokenNet | None  # None where skd is 0, or every batch has the teacher's logits
  teacher_params: Params  # {} with it
  recipe: Recipe
  image_size: int
  batching: Batching
  smoothing: float
  ila_group: int  # samples that a prototype chooses among; 0: the micro-batch
  correlation: bool  # False: plain distillation
  clip_negative: bool
  skd: float  # weights of the three terms
  ce: float
  ila: float
  views_seed: int = 0  # of the stored views that a batch may name

  def init(self, key: Key, batch: Batch) -> tuple[Params, Extra]:
    """Returns random parameters and no extra state: prototypes are parameters."""
    return init_net(self.model, key, self.image_size), {}

  def frozen(self, key: Key, batch: Batch) -> Params:
    """Returns the teacher's parameters, if there are any."""
    return self.teacher_params

  def loss(
    self, params: Params, extra: Extra, frozen: Params, batch: Batch, key: Key
  ) -> tuple[Scalar, LossOut]:
    """Returns the weighted sum of the three terms; teacher and student see the same view.

    Where `batch` names stored views, "photo_view" and "photo_index", and the sketches', the student
    sees these, and else views drawn from `key`. Where it has the teacher's "photo_logits" and
    "sketch_logits" of them, the teacher is not asked.
    """
    teacher_params = jax.lax.stop_gradient(frozen)

    def of_micro_batch(params: Params, micro_batch: Batch) -> tuple[Scalar, Metrics]:
      labels = micro_batch["label"]
      view = training_view(micro_batch["key"], micro_batch["image"], self.recipe, self.image_size)
      out = self.model.apply({"params": params}, view)
      parts = {"ce": losses.smoothed_cross_entropy(out.logits, labels, self.smoothing)}
      if self.skd:
        if "logits" in micro_batch:
          teacher_logits = micro_batch["logits"]
        else:
          teacher_logits = self.teacher.apply({"params": teacher_params}, view).logits
        matrix = self._correlation(params)
        targets = losses.selective_targets(teacher_logits, labels, matrix)
        parts["skd"] = losses.selective_distillation(out.logits, targets)
      if self.ila:
        parts["ila"] = losses.instance_adaptive(
          prototypes_of(params),
          out.bottleneck,
          labels,
          group=self.ila_group,
          smoothing=self.smoothing,
        )
      loss = sum(getattr(self, name) * part for name, part in parts.items())
      return loss, parts | {"accuracy": accuracy(out, labels)}

    keys = self._stored_keys(batch) if "photo_view" in batch else _fresh_keys(key, batch)
    return _mean_loss(of_micro_batch, params, batch, keys, self.batching)

  def _stored_keys(self, batch: Batch) -> dict[str, Key]:
    columns = lambda name: (batch[f"{name}_index"], batch[f"{name}_view"])
    return {name: stored_keys(self.views_seed, *columns(name)) for name in STREAMS}

  def _correlation(self, params: Params) -> jax.Array | None:
    if not self.correlation:
      return None
    return correlation_matrix(prototypes_of(params), clip_negative=self.clip_negative)

  def embed(self, params: Params, batch: Batch) -> dict[str, Embeddings]:
    """Returns the unit fusion tokens of the photos and sketches that `batch` holds."""
    return embed_both(self.model, params, batch, self.recipe)


def init_net(model: TwoTokenNet, key: Key, image_size: int) -> Params:
  """Returns random parameters of a network for images of `image_size`."""
  return model.init(key, jnp.zeros((1, image_size, image_size, 3)))["params"]


def accuracy(out: Output, labels: jax.Array) -> Scalar:
  """Returns the share of samples whose largest logit is their label's."""
  return jnp.mean(jnp.argmax(out.logits, axis=-1) == labels)


def feature_of(out: Output, feature: str) -> Embeddings:
  """Returns what retrieval compares, not normalised: "fusion", the fusion token; "mean", the mean
  of both tokens; "head", the bottleneck.

  Source: TVT's and PSKD's evaluation, return_idx 0, 1 and 2; 3 needs the dist token's head, which
  is never trained there and does not exist here.
  """
  if feature == "fusion":
    return out.fusion
  return out.bottleneck if feature == "head" else (out.dist + out.fusion) / 2


def embed_both(
  model: TwoTokenNet, params: Params, batch: Batch, recipe: Recipe
) -> dict[str, Embeddings]:
  """Returns the unit fusion tokens of what `batch` holds of photos and sketches."""
  return {
    name: l2_normalise(model.apply({"params": params}, plain_view(batch[name], recipe)).fusion)
    for name in STREAMS
    if name in batch
  }


def _mean_loss(
  of_micro_batch: Callable[[Params, Batch], tuple[Scalar, Metrics]],
  params: Params,
  batch: Batch,
  keys: Mapping[str, Key],
  batching: Batching,
) -> tuple[Scalar, LossOut]:
  """Returns the mean over all micro-batches, photos' and sketches'; a key for each image."""
  micro_batches = _micro_batches(batch, keys, batching)
  loss, metrics = accumulated(of_micro_batch, params, micro_batches)
  return loss, LossOut({}, metrics)


def _fresh_keys(key: Key, batch: Batch) -> dict[str, Key]:
  """Returns the keys of views that were never seen."""
  of_streams = zip(STREAMS, jax.random.split(key, len(STREAMS)), strict=True)
  return {name: jax.random.split(part, len(batch[name])) for name, part in of_streams}


def _micro_batches(batch: Batch, keys: Mapping[str, Key], batching: Batching) -> Batch:
  """Returns {"image", "label", "key"} and, if the batch has them, "logits", each with a leading
  axis of micro-batches."""
  ends = {"image": "", "label": "_label"}
  if "photo_logits" in batch:
    ends["logits"] = "_logits"

  def of(name: str, num: int) -> Batch:
    rows = {column: batch[name + end] for column, end in ends.items()} | {"key": keys[name]}
    return {column: split(values, num) for column, values in rows.items()}

  photos = of("photo", batching.accumulation)
  sketches = of("sketch", batching.accumulation // batching.skt_factor)
  return {column: jnp.concatenate([photos[column], sketches[column]]) for column in photos}
