"""Nothing that is read is run: no pickle, no eval, and numpy is told so wherever it reads."""

import ast

import pytest

from tests.paths import REPO

FOLDERS = ("sbir", "xmodal", "pskd", "configs", "benchmarks")
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
READERS = ("np.load", "numpy.load", "jnp.load", "np.lib.format.read_array")
RUNS = {"eval", "exec", "compile", "__import__"}
# A config is a Python file that the user names on the command line; nothing else is imported.
IMPORTS_FILES = {"sbir/cli.py"}


def sources():
  """Returns {path below the repository: its tree} of our own files."""
  paths = [path for folder in FOLDERS for path in sorted((REPO / folder).rglob("*.py"))]
  return {str(path.relative_to(REPO)): ast.parse(path.read_text()) for path in paths}


SOURCES = sources()


def imported(tree):
  """Yields the top names of all that is imported."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.module.split(".")[0]


def loads(tree):
  """Yields (line, is told allow_pickle=False) of each np.load, be it called or passed on."""
  told = {}
  for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
    words = {word.arg: word.value for word in call.keywords}
    value = words.get("allow_pickle")
    is_told = isinstance(value, ast.Constant) and value.value is False
    told |= dict.fromkeys((call.func, *call.args), is_told)
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and ast.unparse(node) in READERS:
      yield node.lineno, told.get(node, False)


def runs(tree):
  """Yields what runs a text or a file: eval(...), module loaders, pandas- or shell-like calls."""
  for node in ast.walk(tree):
    if not isinstance(node, ast.Call):
      continue
    name = ast.unparse(node.func)
    if name in RUNS or name.endswith(("exec_module", "run_path", "run_module", "os.system")):
      yield name
    if any(word.arg == "shell" for word in node.keywords):
      yield f"{name}(shell=...)"


def test_no_pickle_is_imported():
  assert {file for file, tree in SOURCES.items() if PICKLES & set(imported(tree))} == set()


def test_numpy_is_told_to_unpickle_nothing_wherever_it_reads():
  assert any(list(loads(tree)) for tree in SOURCES.values())
  silent = [
    f"{file}:{line}" for file, tree in SOURCES.items() for line, told in loads(tree) if not told
  ]
  assert silent == []


def test_nothing_that_was_read_is_run():
  found = {file: set(runs(tree)) for file, tree in SOURCES.items() if set(runs(tree))}
  assert found == {file: {"spec.loader.exec_module"} for file in IMPORTS_FILES}


@pytest.mark.parametrize(
  ("text", "what", "found"),
  [
    ("import pickle as p", imported, "pickle"),
    ("def f():\n  from joblib import load", imported, "joblib"),
    ("np.load(path)", loads, (1, False)),
    ("np.load(path, allow_pickle=True)", loads, (1, False)),
    ("functools.partial(np.load, mmap_mode='r')", loads, (1, False)),
    ("reader = np.load", loads, (1, False)),
    ("functools.partial(np.load, allow_pickle=False)", loads, (1, True)),
    ("np.load(path, allow_pickle=False)", loads, (1, True)),
    ("eval(text)", runs, "eval"),
    ("subprocess.run(text, shell=True)", runs, "subprocess.run(shell=...)"),
  ],
)
def test_what_is_looked_for_is_found(text, what, found):
  assert found in list(what(ast.parse(text)))
