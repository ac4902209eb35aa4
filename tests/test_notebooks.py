"""The notebooks: they run from top to bottom, and git holds no outputs."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.paths import REPO
from tests.xmodal_runs import QUICK

FOLDER = REPO / "notebooks"
NAMES = ("xmodal_quickstart", "pskd_zero_shot", "search_your_photos")  # the last uses the first's
QUICKLY = {"NOTEBOOK_STEPS": "2", "NOTEBOOK_EPOCHS": "1", "NOTEBOOK_SIZE": "nano"}
COLAB = "https://colab.research.google.com/github/OWNER/sketch-retrieval/blob/main/notebooks"


def read(name):
  return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(book):
  return [cell for cell in book.cells if cell.cell_type == "code"]


def test_every_notebook_is_tested():
  assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_git_holds_no_outputs(name):
  for cell in code_of(read(name)):
    assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_code_cell_installs_pinned_packages(name):
  files = re.search(r"^install\((.*)\)$", code_of(read(name))[0].source, re.M)[1]
  for file in files.replace('"', "").split(", "):
    assert re.search(r"^[\w-]+==", (REPO / file).read_text(), re.M)


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_in_colab_from_itself_and_from_the_readme(name):
  link = f"{COLAB}/{name}.ipynb"
  assert link in read(name).cells[0].source
  assert link in (REPO / "README.md").read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Returns run(name) -> the notebook with its outputs, after a few steps in a shared folder."""
  folder = tmp_path_factory.mktemp("notebooks")
  settings = {
    **QUICKLY,
    **QUICK,
    "NOTEBOOK_RUNS": str(folder),
    "IPYTHONDIR": str(folder / "ipython"),
  }

  def executed(name):
    book = read(name)
    with pytest.MonkeyPatch.context() as patch:
      for key, value in settings.items():
        patch.setenv(key, value)
      NotebookClient(book, timeout=600, resources={"metadata": {"path": str(FOLDER)}}).execute()
    return book

  return executed


def outputs(book, kind):
  """Returns what all cells show of a kind, such as image/png."""
  found = [output.get("data", {}) for cell in code_of(book) for output in cell.outputs]
  return [data[kind] for data in found if kind in data]


def printed(book):
  shown = [output for cell in code_of(book) for output in cell.outputs]
  return "".join(output.text for output in shown if output.get("name") == "stdout")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_top_to_bottom_and_shows_pictures(run, name):
  book = run(name)
  assert len(outputs(book, "image/png")) >= 3
  words = {"xmodal_quickstart": "Acc@10", "pskd_zero_shot": "mAP@all", "search_your_photos": ".jpg"}
  assert words[name] in printed(book)
