"""Readers that are broken on purpose: the fuzzing must find each of them out."""

import contextlib
import ctypes
import os
import signal
import sys
import time

from hypothesis import strategies as st

from sbir.types import UserError
from tests import fuzz
from tests.fuzz_targets import Target

BYTES = st.binary(max_size=40)


def sound(data, folder):
  """Accepts what begins with a letter, refuses the rest."""
  if not data[:1].isalpha():
    raise UserError("no letter")


def raising(data, folder):
  """Has forgotten that a file may be empty, and that a byte may be large."""
  if data[1:2] >= b"\x80":
    raise KeyError("was not thought of")
  return data[0]


def breaking_its_word(data, folder):
  """Returns something else than it says."""
  assert len(data) < 5, "it says at most 5"


def sleeping(data, folder):
  """Never comes back, though Python could interrupt it; catches what it should not."""
  while len(data) == 7:
    with contextlib.suppress(Exception):
      time.sleep(10)


def deaf(data, folder):
  """Never comes back, and nothing but a kill ends it."""
  if len(data) == 7:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(1000)


def hungry(data, folder):
  """Takes memory and gives it back; who looks afterwards sees nothing."""
  if len(data) > 3:
    bytearray(os.urandom(1)) * (100 * 2**20)


def greedy(data, folder):
  """Calls that a refusal which without our limit would have brought the machine down."""
  try:
    bytearray(2**36)
  except MemoryError:
    raise UserError("too large") from None


def crashing(data, folder):
  """Reads where nothing is."""
  if len(data) > 3:
    ctypes.string_at(0)


TARGETS = {
  read.__name__: Target(read.__name__, read.__doc__, BYTES, read, memory=50)
  for read in (sound, raising, breaking_its_word, sleeping, deaf, hungry, greedy, crashing)
}
if __name__ == "__main__":
  sys.exit(fuzz.main(targets=TARGETS))
