"""Which classes are trained on and which are kept unseen: the published lists, or a user's own."""

import difflib
import functools
import hashlib
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple, TextIO

from sbir.places import expanded, is_file, is_remote
from sbir.types import UserError


class PublishedList(NamedTuple):
  """A list of unseen classes that comes with the package."""

  dataset: str
  file: str
  sha256: str  # of the file, so that a list cannot change unnoticed


SPLITS_BY_NAME = {
  # Yelamarthi et al. (ECCV 2018): classes that ImageNet does not have. 104 seen.
  "sketchy21": PublishedList(
    "sketchy",
    "sketchy_zeroshot21.txt",
    "b4251ad75e8a35b5852b6e280c150ca5ad55e832e9bd36553721e17b757e9531",
  ),
  # Shen et al. (CVPR 2018) as SAKE and ZSE-SBIR list it. 100 seen.
  "sketchy25": PublishedList(
    "sketchy",
    "sketchy_random25.txt",
    "911bf1f8ccb5ccf24d3903217e9f1aca6383eaaee6010d30a7a5f3f72f48f9e1",
  ),
  # The list of SAKE and ZSE-SBIR. 220 seen.
  "tuberlin30": PublishedList(
    "tuberlin",
    "tuberlin_random30.txt",
    "b24e3774b801d93f19b3a37b199e129ba20d6061fdcff8ad0fc1441d5f7de800",
  ),
  # As read off the figures of PSKD, which released no list: wine-bottle instead of windmill.
  "tuberlin30_pskd": PublishedList(
    "tuberlin",
    "tuberlin_random2_pskd30_inferred.txt",
    "8ee6b9c28832e0cf4d71770ecf4490e0072ebdece9a12bb43c552112140cd1cd",
  ),
  # Dey et al. (CVPR 2019). 80 seen.
  "quickdraw30": PublishedList(
    "quickdraw",
    "quickdraw30.txt",
    "13f8522f7b55b2b73fddb4871429eb877171887e79c39ab523b475eccdc8594d",
  ),
  # Ours, of the embedded set. Its classes are the harder ones: ranked by oriented gradients alone,
  # none is nearly solved and none is at chance (mAP .57 to .73 each, .66 together; chance .2).
  "demo": PublishedList(
    "demo",
    "demo5.txt",
    "3f104b6601511a31c104b0d4ce685be44a077945542241bd7bada3897298798b",
  ),
}

MAX_LIST = 1_000_000  # letters; TU-Berlin's 250 classes have 2000
ALL_CLASSES = {
  "sketchy": "sketchy_all125.txt",
  "tuberlin": "tuberlin_all250.txt",
  "quickdraw": "quickdraw_all110.txt",
}
OUTLIERS = "sketchy_sketch_outliers.txt"  # 12 sketches that TVT and PSKD leave out

# By their letters alone: the slips in the photo folders of TU-Berlin Extended, and its mouse
# and pipe, which those folders write without what stands in brackets.
# Source: the script with which sem-pcyc renames the folders.
SPELT_AS = {
  "chandeler": "chandelier",
  "diamod": "diamond",
  "griaffe": "giraffe",
  "mouseanimal": "mouse",
  "pipeforsmoking": "pipe",
  "spacesshuttle": "space_shuttle",
  "spidar": "spider",
  "tromobone": "trombone",
  "wristwatching": "wrist_watch",
}


class ClassSplit(NamedTuple):
  """What is done with each class. The names are normalised and sorted, and no two parts share one.

  `sha256` is of the unseen names joined by newlines: one split has one hash, whatever its file is
  called and however it is written.
  """

  name: str
  seen: tuple[str, ...]  # trained on: label i is seen[i]
  validation: tuple[str, ...]  # taken out of the seen ones
  unseen: tuple[str, ...]
  sha256: str


@functools.lru_cache(maxsize=4096)  # asked for every image, of a few hundred classes
def normalise(name: str) -> str:
  """Returns the one spelling of a class name under which folders and lists are compared.

  Small letters, "_" for spaces and hyphens. A published class is found however its words are
  joined, as in the photo folders of TU-Berlin ("carsedan" is car_(sedan)), and under the known
  slips of those folders. Applying it twice changes nothing.
  """
  plain = unicodedata.normalize("NFC", name.lower()).strip()
  plain = re.sub(r"[\s_-]+", "_", plain).strip("_") or plain
  return _spellings().get(_letters(plain), plain)


def classes_in(file: str) -> tuple[str, ...]:
  """Returns the names in a list of the package, normalised, in the order of the list."""
  return tuple(normalise(name) for name in _lines(packaged(file).decode()))


def packaged(file: str) -> bytes:
  """Returns the bytes of a list of the package."""
  return resources.files("sbir.data").joinpath("class_lists", file).read_bytes()


@functools.cache
def outlier_sketches() -> frozenset[str]:
  """Returns the sketches of Sketchy that are left out, "<class>/<file name>"."""
  names = (line.split("/") for line in _lines(packaged(OUTLIERS).decode()))
  return frozenset(f"{normalise(category)}/{file}" for category, file in names)


def read_split(
  split: str, classes: Iterable[str], *, validation_classes: int = 0, seen: str = ""
) -> ClassSplit:
  """Returns the split called `split` of the classes that a data set has.

  `split` is a name of SPLITS_BY_NAME or the path of a text file with an unseen class in each line
  (blank lines and "# comments" do not count). `seen` is the path of such a file with the classes to
  train on; without it those are all the others that the data has.

  `validation_classes` of the seen are taken out, those whose SHA-256 is lowest: the choice depends
  on nothing but the names.

  Raises: UserError for an unknown name, a file that is no list, a class that the data does not
  have or that is on both sides, and if nothing is left to train on.
  """
  found = sorted({normalise(name) for name in classes})
  unseen = unseen_classes(split)
  _check_found(f"data.split={split}", unseen, found)
  trained = sorted(set(found).difference(unseen))
  if seen:
    trained = sorted(own_list(seen, "data.seen"))
    check_no_leak(trained, unseen)
    _check_found(f"data.seen={seen}", trained, found)
  if not trained:
    raise UserError(
      f"data.split={split}: all {len(found)} classes of the data are unseen, expected at least one "
      "to train on; take some out of the list"
    )
  validation = _validation(trained, validation_classes)
  return ClassSplit(
    name=split if split in SPLITS_BY_NAME else Path(split).name,
    seen=tuple(name for name in trained if name not in validation),
    validation=validation,
    unseen=tuple(sorted(unseen)),
    sha256=hashlib.sha256("\n".join(sorted(unseen)).encode()).hexdigest(),
  )


def check_no_leak(seen: Iterable[str], unseen: Iterable[str]) -> None:
  """Raises UserError if a class, however it is spelt, is both trained on and unseen."""
  both = sorted({normalise(name) for name in seen} & {normalise(name) for name in unseen})
  if both:
    raise UserError(
      f"{len(both)} of the classes both seen and unseen: {', '.join(both[:5])}; expected each on "
      "one side, else the unseen are trained on; remove it from one of the lists"
    )


def _validation(trained: Sequence[str], number: int) -> tuple[str, ...]:
  if not 0 <= number < len(trained):
    raise UserError(
      f"data.validation_classes={number}, expected 0 to {len(trained) - 1}: at least one of the "
      f"{len(trained)} seen classes is trained on"
    )
  by_hash = sorted(trained, key=lambda name: hashlib.sha256(name.encode()).digest())
  return tuple(sorted(by_hash[:number]))


def unseen_classes(split: str, setting: str = "data.split") -> list[str]:
  """Returns the names in a published or a user's own list, normalised. Raises: as `read_split`."""
  if split in SPLITS_BY_NAME:
    return list(classes_in(SPLITS_BY_NAME[split].file))
  if is_file(expanded(split)):
    return own_list(split, setting)
  near = difflib.get_close_matches(split, SPLITS_BY_NAME, n=1)
  hint = f"did you mean {near[0]}?" if near else "for your own write a text file, a class in a line"
  raise UserError(
    f"{setting}={split!r}: expected one of {', '.join(SPLITS_BY_NAME)}, or the path of a list of "
    f"unseen classes; {hint}"
  )


def own_list(path: str | os.PathLike, setting: str) -> list[str]:
  """Returns the names in a user's text file, normalised; `setting` is what gave the path.

  Raises: UserError if it cannot be read, is empty or names a class twice.
  """
  try:
    with _opened(expanded(path)) as file:
      text = file.read(MAX_LIST + 1)
  except UserError:
    raise
  except UnicodeDecodeError:
    raise UserError(f"{setting}={path} is no text in UTF-8; save it as plain text") from None
  except (OSError, ValueError) as error:  # ValueError: of a path that no system can have
    raise UserError(
      f"{setting}={path} cannot be read ({getattr(error, 'strerror', '') or error}), expected a "
      "text file with a class in each line; check the path"
    ) from None
  if len(text) > MAX_LIST:
    raise UserError(
      f"{setting}={path} has more than {MAX_LIST} letters, expected a class in each line; it is "
      "another kind of file"
    )
  names = _lines(text)
  if not names:
    raise UserError(f"{setting}={path} is empty, expected a class in each line; write them in")
  by_spelling: dict[str, str] = {}
  for name in names:
    spelling = normalise(name)
    if spelling in by_spelling:
      raise UserError(
        f"{setting}={path} names the class {spelling!r} twice (as {by_spelling[spelling]!r} and "
        f"{name!r}), expected each once; remove one of the lines"
      )
    by_spelling[spelling] = name
  return list(by_spelling)


def _opened(path: Path) -> TextIO:
  """Opens a text in UTF-8; of one in a store no more than tells that it is too long."""
  if not is_remote(path):
    return open(path, encoding="utf-8-sig")
  data = path.read_bytes(len("\ufeff".encode()) + 4 * (MAX_LIST + 1))
  return io.TextIOWrapper(io.BytesIO(data), "utf-8-sig")


def _check_found(setting: str, names: Sequence[str], found: Sequence[str]) -> None:
  if not (missing := sorted(set(names).difference(found))):
    return
  rest = [name for name in found if name not in names]
  near = difflib.get_close_matches(missing[0], rest, n=1)
  what = f"nearest there: {near[0]}" if near else f"the data has {', '.join(found[:5]) or 'none'}"
  raise UserError(
    f"{setting}: {len(missing)} of its {len(names)} classes not in the data: "
    f"{', '.join(missing[:5])}; "
    f"{what}; correct the names or take another list"
  )


def _lines(text: str) -> list[str]:
  lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
  return [line for line in lines if line]


def _letters(name: str) -> str:
  """Returns a name without separators and brackets; letters of any alphabet stay."""
  return re.sub(r"[\s_()-]", "", name)


@functools.cache
def _spellings() -> dict[str, str]:
  """Returns the one spelling of each published class, by its letters.

  The first list decides: TU-Berlin's hot-dog is Sketchy's hotdog.
  """
  spellings: dict[str, str] = {}
  for file in ALL_CLASSES.values():
    for line in _lines(packaged(file).decode()):
      name = re.sub(r"[\s-]", "_", line.lower())
      spellings.setdefault(_letters(name), name)
  return spellings | SPELT_AS
