"""What every config file starts from: the shared keys, and picking a variant by name."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from ml_collections import ConfigDict

T = TypeVar("T")


def pick(name: str, table: Mapping[str, T]) -> T:
  """Returns table[name].

  Raises: ValueError naming the near names, or all, if there is no such entry.
  """
  if name in table:
    return table[name]
  near = difflib.get_close_matches(name, table, n=3, cutoff=0.5)
  hint = f"nearest: {', '.join(near)}" if near else f"choose one of {', '.join(sorted(table))}"
  raise ValueError(f"config name {name!r} is unknown; {hint}")


def shared() -> ConfigDict:
  """Returns the keys that every training config has, with their defaults."""
  return ConfigDict(
    {
      "steps": 1000,
      "seed": 0,
      "batch_size": 16,
      "image_size": 224,
      "compute_dtype": "float32",  # or "bfloat16": what the towers' matrix products run in
      "remat": False,  # True: keep less of each block for the backward pass, compute it again
      "save_every": 1000,  # steps; 0: only at the end
      "log_every": 100,
      "eval_every": 0,
      "keep": 2,  # newest checkpoints to keep
      "skip_nonfinite": 0,  # so many steps in a row may have no finite gradient: they are left out
      "log_tensorboard": True,
      "data": data(),
      # What to begin from: "random", or weights of a kind ("augreg", "timm", "dino", "deit",
      # "package", the method's own) at a path: a file, a package's folder, or hf:org/name[/file].
      # resample: positions of another image size are resampled; otherwise they are refused.
      "init": {"kind": "random", "path": "", "resample": False},
      "mesh": {"data": -1, "fsdp": 1},  # devices; -1 takes all that are left
    }
  )


def data() -> ConfigDict:
  """Returns the keys that say where images come from and how they are read."""
  return ConfigDict(
    {
      "source": "folder",  # "synthetic", "folder", "manifest" or "tfds"
      "name": "shoe_v2",
      "dir": "",
      "seed": 0,  # of the synthetic set
      "cache": "memory",  # keep resized images; "disk" for all processes, "none" not at all
      "cache_dir": "",  # of "disk"; "": the user's cache folder
      # What training does about an image that cannot be read: "stop" and name it; "skip": name it,
      # show another, and stop when they are more than 1 in 100. Measuring always stops.
      "on_error": "stop",
      "fit": "stretch",  # to the square, as published; "trim": cut white margins, keep the shape
      "sample_by": "sketch",  # each sketch once an epoch; "photo": each photo once, as released
      "num_threads": 2,
    }
  )
