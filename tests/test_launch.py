"""launch.sh in a folder of its own, with requirement files that ask for nothing."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.paths import REPO

# Makes a .venv at once, with a stand-in for pip that installs nothing.
QUICK_PYTHON = f"""#!/bin/sh
[ "$1" = -m ] || exec {sys.executable} "$@"
{sys.executable} -m venv --without-pip "$4" && cd "$4"/lib/python*/site-packages && mkdir pip
echo 'import sys; sys.exit("--fail" in open("requirements.txt").read())' >pip/__main__.py
touch pip/__init__.py
"""


@pytest.fixture
def clone(tmp_path):
  for name in ("launch.sh", ".ci"):
    copy = shutil.copytree if (REPO / name).is_dir() else shutil.copy
    copy(REPO / name, tmp_path / name)
  for name in ("requirements.txt", "requirements-test.txt"):
    (tmp_path / name).write_text("# nothing\n")
  (tmp_path / "xmodal").mkdir()
  for name in ("demo", "pipeline"):
    (tmp_path / f"xmodal/{name}.py").write_text("import sys; print(sys.argv[1:])")
  (tmp_path / "python").write_text(QUICK_PYTHON)
  (tmp_path / "python").chmod(0o755)
  return tmp_path


def launch(clone, *arguments):
  command = [str(clone / "launch.sh"), *arguments]
  environment = {**os.environ, "PYTHON": str(clone / "python")}
  return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["demmo"], "unknown command 'demmo'; choose one of: setup, demo, train, test, help"),
    (["demo", "nomodal"], "unknown method 'nomodal'; choose one of: xmodal pskd"),
    (["train", "nomodal"], "unknown method 'nomodal'; choose one of: xmodal pskd"),
    (["train"], "train what? ./launch.sh train METHOD NAME --data DIR --workdir W"),
    (["setup", "--fast"], "setup knows only --dev, not '--fast'"),
  ],
)
def test_an_unknown_word_is_one_line_and_sets_nothing_up(clone, arguments, message):
  result = launch(clone, *arguments)
  assert (result.returncode, result.stderr) == (2, f"error: {message}\n")
  assert not (clone / ".venv").exists()


@pytest.mark.parametrize("arguments", [[], ["help"], ["--help"]])
def test_help_lists_the_commands(clone, arguments):
  result = launch(clone, *arguments)
  assert result.returncode == 0
  assert "train METHOD NAME --data DIR --workdir W" in result.stdout


def test_continuous_integration_calls_the_test_command_and_nothing_else(clone):
  (clone / "launch.sh").write_text('#!/usr/bin/env bash\necho "called: $*"\n')
  result = subprocess.run([clone / ".ci/run"], cwd="/", capture_output=True, text=True)
  assert result.stdout == "called: test\n"


def test_an_interpreter_that_is_too_old_is_named(clone):
  old = clone / "old-python"
  old.write_text(
    "#!/bin/sh\n[ \"$2\" = 'import platform; print(platform.python_version())' ] && echo 3.8.1\n"
  )
  old.chmod(0o755)
  command = [
    "/usr/bin/env",
    "-i",
    f"PATH={clone}/bin",
    f"PYTHON={old}",
    "/bin/bash",
    "launch.sh",
    "setup",
  ]
  (clone / "bin").mkdir()
  for name in ("dirname", "cat", "rm"):
    (clone / "bin" / name).symlink_to(shutil.which(name))
  result = subprocess.run(command, cwd=clone, capture_output=True, text=True)
  assert result.returncode == 2
  assert "no usable Python 3.11 to 3.13 found" in result.stderr and "is 3.8.1" in result.stderr
  assert result.stderr.count("\n") == 1


def test_set_up_happens_once(clone):
  first = launch(clone, "demo", "--json", "--workdir", "w")
  assert first.stdout == "['--json', '--workdir', 'w']\n", first.stderr
  assert "making .venv" in first.stderr and "installing the packages" in first.stderr
  second = launch(clone, "train", "xmodal", "shoe_v2", "--data", "d")
  assert (second.stdout, second.stderr) == ("['shoe_v2', '--data', 'd']\n", "")


def test_what_the_tests_need_is_set_up_once_too(clone):
  assert "requirements-test.txt" in launch(clone, "setup", "--dev").stderr
  assert "installing" not in launch(clone, "setup", "--dev").stderr
  assert launch(clone, "demo").stderr == ""


def test_new_requirements_are_installed_into_the_same_venv(clone):
  launch(clone, "setup")
  (clone / "requirements.txt").write_text("# nothing new\n")
  again = launch(clone, "setup").stderr
  assert "installing" in again and "making .venv" not in again


@pytest.mark.parametrize("damage", ["without python", "without pip", "killed while installing"])
def test_a_broken_or_half_made_venv_is_made_again(clone, damage):
  launch(clone, "setup")
  if damage == "without python":
    (clone / ".venv/bin/python").unlink()
  elif damage == "without pip":
    shutil.rmtree(next(clone.glob(".venv/lib/*/site-packages/pip")))
  else:
    (clone / ".venv/.installing").touch()
  mended = launch(clone, "demo").stderr
  assert "broken or half-made" in mended and "installing" in mended
  assert launch(clone, "demo").stderr == ""
  assert not (clone / ".venv.broken").exists()


def test_a_failed_installation_says_so_and_is_tried_again(clone):
  (clone / "requirements.txt").write_text("--fail\n")
  failed = launch(clone, "demo")
  assert failed.returncode == 2 and failed.stdout == ""
  assert "error: the packages could not be installed" in failed.stderr
  (clone / "requirements.txt").write_text("# nothing\n")
  again = launch(clone, "demo")
  assert again.stdout == "[]\n" and "making .venv" not in again.stderr
