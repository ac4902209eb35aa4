"""A result that says when it is fetched."""

import numpy as np


class Lazy:
  """What a jitted function returns, seen from the host: `events` gets a word when it is read."""

  def __init__(self, number, events):
    self.number, self.events = number, events

  def __array__(self, dtype=None, copy=None):
    self.events.append(f"fetch {self.number}")
    return np.zeros((1, 2), np.float32)
