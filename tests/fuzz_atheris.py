"""The same targets under atheris, which keeps the inputs that reach new lines of our code.

  pip install atheris                           (no requirement of ours; the suite needs it nowhere)
  python -m tests.fuzz_atheris pth -max_total_time=300

What follows the target is for libFuzzer (-help=1 lists it). It begins with inputs that hypothesis
draws, and stops at the first finding, which `python -m tests.fuzz --replay` takes when it is named
as those of tests.fuzz are: -artifact_prefix=runs/fuzz/pth-.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sbir"]):
  from sbir.types import UserError
  from tests import fuzz
from tests.fuzz_attempt import Fuzzing

SEEDS = 300


def main(arguments: list[str]) -> None:
  """Fuzzes one target until libFuzzer has enough; it ends the process."""
  name, *flags = arguments or ["--help"]
  if name not in fuzz.TARGETS:
    sys.exit(f"{__doc__}\ntargets: {', '.join(fuzz.TARGETS)}")
  target = fuzz.TARGETS[name]
  place, corpus = (Path(tempfile.mkdtemp(prefix=f"{name}-{what}-")) for what in ("place", "seeds"))

  def keep(data: bytes, _: object) -> None:
    (corpus / hashlib.sha256(data).hexdigest()).write_bytes(data)

  def try_one(data: bytes) -> None:
    try:
      target.read(data, place)
    except UserError:
      return

  Fuzzing(target, place, seconds=fuzz.SECONDS, before=keep).run(SEEDS, seed=0)
  atheris.Setup([sys.argv[0], f"-timeout={fuzz.SECONDS:.0f}", *flags, str(corpus)], try_one)
  atheris.Fuzz()


if __name__ == "__main__":
  main(sys.argv[1:])
