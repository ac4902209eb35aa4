"""One HTML file that holds a whole report: tables and pictures inside it, nothing from the net."""

import base64
import html
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sbir.places import place
from sbir.run_folder import write_text
from sbir.types import UserError

PNG_START = b"\x89PNG\r\n\x1a\n"
BROAD, WIDE = 900, 1100  # pixels: on a phone, wider pictures are scrolled instead of shrunk

STYLE = """
:root { --ink: #222; --faint: #6b6b6b; --line: #e2e2e2; --accent: #2166ac; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 64rem; color: var(--ink);
  background: #fff; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .4rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-bottom: .25rem;
  border-bottom: 2px solid var(--accent); overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .93rem; }
a { color: var(--accent); text-decoration: none; }
p { margin: .4rem 0 .8rem; max-width: 44rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0 1.6rem; }
figcaption { color: var(--faint); font-size: .9rem; margin-top: .4rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
img { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .62rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; border-bottom: 2px solid var(--line); }
tbody tr:nth-child(even) { background: #f7f8fa; }
.left { text-align: left; }
td.left + td.left { white-space: normal; overflow-wrap: anywhere; min-width: 11rem; }
@media (max-width: 40rem) {
  body { font-size: 15px; padding: .8rem .8rem 3rem; }
  th, td { padding: .28rem .36rem; }
  table { font-size: .84rem; }
  td.left { white-space: normal; }
  .broad img { max-width: none; width: 34rem; }
  .wide img { max-width: none; width: 56rem; }
}
"""


class Table(NamedTuple):
  """A table of words: the first `num_left` columns are set to the left, figures to the right."""

  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  caption: str = ""
  num_left: int = 1


class Picture(NamedTuple):
  """A PNG file and the words below it."""

  path: str | Path
  caption: str = ""


class Section(NamedTuple):
  """A heading, one paragraph for each line of `text`, then tables and pictures in order."""

  heading: str
  items: Sequence[Table | Picture] = ()
  text: str = ""


def write_html(path: str | Path, title: str, sections: Sequence[Section]) -> Path:
  """Writes the report as one file that needs no other, whole or not at all; returns its path.

  Every word is escaped, so names may hold anything.

  Raises: UserError if a picture is no readable PNG, a row does not fit its header, or the file
  cannot be written.
  """
  path = place(path)
  body = _contents(sections) + "\n".join(_section(*both) for both in enumerate(sections))
  text = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{_escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    f"<h1>{_escape(title)}</h1>\n{body}\n</body>\n</html>\n"
  )
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
  except OSError as error:
    raise UserError(
      f"report {path} cannot be written ({error.strerror}); choose another folder"
    ) from None
  return path


def _contents(sections: Sequence[Section]) -> str:
  """Returns links to the sections, if there are enough of them to look for one."""
  if len(sections) < 4:
    return ""
  links = (f'<a href="#s{i}">{_escape(part.heading)}</a>' for i, part in enumerate(sections))
  return f"<nav>{' '.join(links)}</nav>\n"


def _section(number: int, section: Section) -> str:
  lines = [f'<h2 id="s{number}">{_escape(section.heading)}</h2>']
  lines += [f"<p>{_escape(line)}</p>" for line in section.text.splitlines() if line.strip()]
  for item in section.items:
    lines.append(_table(item) if isinstance(item, Table) else _picture(item))
  return "<section>\n" + "\n".join(lines) + "\n</section>"


def _table(table: Table) -> str:
  for row in table.rows:
    if len(row) != len(table.header):
      raise UserError(
        f"a row of {len(row)} cells under a header of {len(table.header)}, expected equally many; "
        f"look at the row of {row[0] if row else 'nothing'}"
      )
  head = _row("th", table.header, table.num_left)
  body = "\n".join(_row("td", row, table.num_left) for row in table.rows)
  return (
    f'<figure>\n<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n'
    f"</table></div>\n{_caption(table.caption)}</figure>"
  )


def _row(tag: str, cells: Sequence[str], num_left: int) -> str:
  left = ' class="left"'
  parts = (
    f"<{tag}{left if i < num_left else ''}>{_escape(str(cell))}</{tag}>"
    for i, cell in enumerate(cells)
  )
  return f"<tr>{''.join(parts)}</tr>"


def _picture(picture: Picture) -> str:
  data, width, height = _read_png(place(picture.path))
  name = _escape(picture.caption or Path(picture.path).stem)
  kind = "scroll wide" if width > WIDE else "scroll broad" if width > BROAD else "scroll"
  source = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
  return (
    f'<figure>\n<div class="{kind}"><img alt="{name}" width="{width}" height="{height}" '
    f'src="{source}"></div>\n{_caption(picture.caption)}</figure>'
  )


def _read_png(path: Path) -> tuple[bytes, int, int]:
  """Returns (bytes, width, height) of a PNG file."""
  try:
    data = path.read_bytes()
  except OSError as error:
    raise UserError(
      f"picture {path} cannot be read ({error.strerror}); draw it before the report"
    ) from None
  if data[:8] != PNG_START or len(data) < 24:
    raise UserError(f"picture {path} is no PNG, expected one; draw it again")
  width, height = struct.unpack(">II", data[16:24])
  return data, width, height


def _caption(text: str) -> str:
  return f"<figcaption>{_escape(text)}</figcaption>\n" if text else ""


def _escape(text: str) -> str:
  return html.escape(text, quote=True)
