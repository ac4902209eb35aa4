"""The model card, README.md of a package: what it is, how to use it, where its numbers are from."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sbir.path_free import is_path, last_part
from sbir.preprocessing import Preprocessing

XMODAL = "XModalViT (Chaudhuri et al., BMVC 2022, arXiv:2210.10486)"
WHAT = {
  "vit": "A plain Vision Transformer; photos and sketches alike come out as its class token.",
  "xmodal-teacher": f"The teacher of {XMODAL}: fuses a photo and a sketch by cross-attention. It "
  "sees both together, so it cannot search; its students can.",
  "xmodal-student": f"A student of {XMODAL}: an encoder of one modality into the space in which "
  "the teacher fuses photo and sketch.",
  "xmodal-pair": f"A photo encoder and a sketch encoder in one space, as {XMODAL} has them: they "
  "find the very photo that was drawn.",
  "pskd": "The two-token ViT of PSKD (ACM MM 2022, doi:10.1145/3503161.3548382): finds photos of a "
  "class from a sketch, also of classes never trained on.",
}
SYNTHETIC = (
  "Trained on drawn, synthetic objects: it shows the method, and is of no use on real photos."
)
NOT_COMPARABLE = "Scores of two different models cannot be compared with each other."
HEAD = """\
---
library_name: sketch-retrieval
pipeline_tag: image-feature-extraction
tags:
- sketch-based-image-retrieval
- jax
- {architecture}
---

# {title}

{what}

{origin}
"""
USE = """\
```python
import sbir

model = sbir.from_pretrained("DIR")    # this folder, or "hf:org/name"
{lines}
```
"""
SEARCH = """\
photos = model.encode_photos(["a.jpg", "b.jpg"])    # f32[n, {width}], unit vectors
sketch = model.encode_sketches(["drawing.png"])     # paths, PIL images or uint8 arrays
best = (sketch @ photos.T)[0].argsort()[::-1]       # the most similar photo first"""
ONE_SIDED = """\
vectors = model.encode_{plural}(["a.png", "b.png"])  # f32[n, {width}], unit vectors"""
TOGETHER = """\
view = model.preprocessing.view                     # of uint8 squares, [b, {side}, {side}, 3]
fused = model.forward(photo=view(photos), sketch=view(sketches))
fused["photo"], fused["sketch"]                     # f32[b, {width}]"""
ROW = "| {} | {} | {} | {} |"


class Measured(NamedTuple):
  """What one evaluation found."""

  title: str
  about: Mapping[str, str]  # protocol, data, split with its hash, ...
  metrics: Mapping[str, float]  # fractions
  intervals: Mapping[str, Sequence[float]]
  chance: Mapping[str, float]


class Facts(NamedTuple):
  """What a card says; paths are cut to their last part on the way."""

  title: str
  architecture: str
  modalities: Sequence[str]
  width: int  # of the embeddings
  num_params: int
  origin: str  # one sentence: trained or converted, from what
  details: Mapping[str, str] = {}  # data, classes, steps, ... or source file and hash
  measured: Sequence[Measured] = ()
  commands: Sequence[str] = ()
  versions: Mapping[str, str] = {}
  limits: Sequence[str] = ()


def write_card(facts: Facts, how: Preprocessing) -> str:
  """Returns the card as Markdown, with the front matter that model hubs read."""
  head = HEAD.format(
    architecture=facts.architecture,
    title=facts.title,
    what=WHAT[facts.architecture],
    origin=facts.origin,
  )
  commands = [clean(line) for line in facts.commands]
  parts = [
    head,
    _section("Use", USE.format(lines=_usage(facts, how))),
    _section("Model", _table({**_model(facts, how), **_clean_all(facts.details)})),
    *(_measured(measured) for measured in facts.measured),
    "" if facts.measured else _section("Measured", "Nothing yet.\n"),
    _section("Commands", _code(commands)),
    _section("Versions", _table(facts.versions)),
    _section("Limits", "".join(f"- {line}\n" for line in facts.limits)),
  ]
  return "\n".join(part for part in parts if part)


def clean(text: str) -> str:
  """Returns a command line, or any other text, with each path of the maker's disk cut to its last
  part; what names a config of the project stays."""
  return " ".join(_clean_word(word) for word in text.split())


def _clean_all(rows: Mapping[str, str]) -> dict[str, str]:
  return {name: clean(text) for name, text in rows.items()}


def _clean_word(word: str) -> str:
  flag, equals, value = word.rpartition("=")
  if value.startswith("configs/") or not is_path(value):
    return word
  return f"{flag}{equals}{last_part(value)}"


def _usage(facts: Facts, how: Preprocessing) -> str:
  if facts.architecture == "xmodal-teacher":
    return TOGETHER.format(side=how.image_size, width=facts.width)
  if len(facts.modalities) == 1:
    plural = {"photo": "photos", "sketch": "sketches"}[facts.modalities[0]]
    return ONE_SIDED.format(plural=plural, width=facts.width)
  return SEARCH.format(width=facts.width)


def _model(facts: Facts, how: Preprocessing) -> dict[str, str]:
  fit = {"stretch": "stretched to the square", "trim": "white margins cut, padded to a square"}
  colours = "maps of oriented gradients, " if how.gradients else ""
  number = lambda values: ", ".join(f"{value:g}" for value in values)
  return {
    "parameters": f"{facts.num_params:,}",
    "images": f"{how.image_size} px, {fit[how.fit]}, bilinear; {colours}mean {number(how.mean)}, "
    f"std {number(how.std)}",
  }


def _measured(measured: Measured) -> str:
  rows = [ROW.format("", "measured, %", "95 % interval", "chance, %"), "|---|---|---|---|"]
  for name in sorted(measured.metrics, key=_with_numbers):
    value = measured.metrics[name]
    interval = " to ".join(_percent(bound) for bound in measured.intervals.get(name, ()))
    rows.append(ROW.format(name, _percent(value), interval, _percent(measured.chance.get(name))))
  about = "".join(f"- {key}: {text}\n" for key, text in _clean_all(measured.about).items())
  return _section(f"Measured: {measured.title}", about + "\n" + "\n".join(rows) + "\n")


def _with_numbers(name: str) -> list[Any]:
  """Returns what sorts acc@5 before acc@10."""
  return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _percent(value: float | None) -> str:
  return "" if value is None else f"{100 * value:.1f}"


def _section(title: str, text: str) -> str:
  return f"## {title}\n\n{text}" if text else ""


def _table(rows: Mapping[str, Any]) -> str:
  if not rows:
    return ""
  lines = "".join(f"| {name} | {_cell(value)} |\n" for name, value in rows.items())
  return f"| | |\n|---|---|\n{lines}"


def _cell(value: Any) -> str:
  return " ".join(str(value).replace("|", "\\|").split())


def _code(lines: Sequence[str]) -> str:
  return "```\n" + "".join(f"{line}\n" for line in lines) + "```\n" if lines else ""
