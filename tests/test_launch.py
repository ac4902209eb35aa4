"""launch.sh in a folder of its own, with requirement files that ask for nothing."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.paths import REPO

# Makes a .venv at once; its pip installs nothing, and notes what is asked of it.
QUICK_PYTHON = f"""#!/bin/sh
[ "$1" = -m ] || exec {sys.executable} "$@"
{sys.executable} -m venv --without-pip "$4" && cd "$4"/lib/python*/site-packages && mkdir pip
cat >pip/__main__.py <<'EOF'
import sys
print(*sys.argv[1:], file=open("pip.txt", "a"))
sys.exit("--fail" in open("requirements.txt").read())
EOF
touch pip/__init__.py
"""

KNOWN = "setup knows only --accelerator NAME, --with NAME and --dev, not"
ACCELERATOR = "--accelerator does not know"
COMMANDS = "setup, demo, train, test, bench, local, slurm, tpu, k8s, help"
PIP = "install --no-input --disable-pip-version-check --progress-bar off"


@pytest.fixture
def clone(tmp_path):
  for name in ("launch.sh", ".ci"):
    copy = shutil.copytree if (REPO / name).is_dir() else shutil.copy
    copy(REPO / name, tmp_path / name)
  for name in ("", "-test", "-hub", "-export", "-bench", "-cuda", "-tpu"):
    (tmp_path / f"requirements{name}.txt").write_text("# nothing\n")
  (tmp_path / "benchmarks.py").write_text("import sys; print(sys.argv[1:])")
  (tmp_path / "xmodal").mkdir()
  for name in ("demo", "pipeline"):
    (tmp_path / f"xmodal/{name}.py").write_text("import sys; print(sys.argv[1:])")
  (tmp_path / "sbir").mkdir()
  (tmp_path / "sbir/cluster.py").write_text("import sys; print(sys.argv[1:])")
  (tmp_path / "python").write_text(QUICK_PYTHON)
  (tmp_path / "python").chmod(0o755)
  return tmp_path


def pip_calls(clone):
  """Returns what pip was asked to install, call by call, and forgets it."""
  calls = (clone / "pip.txt").read_text().replace(f"{clone}/", "").splitlines()
  (clone / "pip.txt").write_text("")
  return [call.removeprefix(f"{PIP} ") for call in calls]


def launch(clone, *arguments):
  command = [str(clone / "launch.sh"), *arguments]
  environment = {**os.environ, "PYTHON": str(clone / "python")}
  return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["demmo"], f"unknown command 'demmo'; choose one of: {COMMANDS}"),
    (["demo", "nomodal"], "unknown method 'nomodal'; choose one of: xmodal pskd"),
    (["train", "nomodal"], "unknown method 'nomodal'; choose one of: xmodal pskd"),
    (["train"], "train what? ./launch.sh train METHOD NAME --data DIR --workdir W"),
    (["setup", "--fast"], f"{KNOWN} '--fast'"),
    (["setup", "--dev", "hub"], f"{KNOWN} 'hub'"),
    (["setup", "--with", "hab"], "setup --with does not know 'hab'; choose one of: export hub"),
    (["setup", "--with", "test"], "setup --with does not know 'test'; choose one of: export hub"),
    (["setup", "--with", "*"], "setup --with does not know '*'; choose one of: export hub"),
    (["setup", "--with", "cuda"], "setup --with does not know 'cuda'; choose one of: export hub"),
    (["setup", "--accelerator", "gpu"], f"setup {ACCELERATOR} 'gpu'; choose one of: cpu cuda tpu"),
    (["setup", "--accelerator"], f"setup {ACCELERATOR} ''; choose one of: cpu cuda tpu"),
    (["setup", "--with"], "setup --with does not know ''; choose one of: export hub"),
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


BASE = "-r requirements.txt"
HUB = "-r requirements-hub.txt -c requirements.txt"
SEARCH = "-r requirements-search.txt -c requirements.txt"
EXPORT = "-r requirements-export.txt --no-deps"
CUDA = "-r requirements-cuda.txt -c requirements.txt"
TPU = "-r requirements-tpu.txt -c requirements.txt"


def test_what_the_tests_need_is_set_up_once_too(clone):
  assert "requirements-test.txt" in launch(clone, "setup", "--dev").stderr
  assert pip_calls(clone) == [f"{BASE} -r requirements-test.txt", EXPORT, HUB]
  assert "installing" not in launch(clone, "setup", "--dev").stderr
  assert "installing" not in launch(clone, "setup", "--with", "hub").stderr
  assert launch(clone, "demo").stderr == ""
  assert pip_calls(clone) == []


def test_what_the_tests_need_is_set_up_without_extras_where_there_are_none(clone):
  for name in ("hub", "export"):
    (clone / f"requirements-{name}.txt").unlink()
  assert launch(clone, "setup", "--dev").returncode == 0
  assert pip_calls(clone) == [f"{BASE} -r requirements-test.txt"]


@pytest.mark.parametrize(
  ("names", "calls"), [(["hub"], [HUB]), (["export"], [EXPORT]), (["hub", "export"], [HUB, EXPORT])]
)
def test_extras_are_set_up_on_top_once(clone, names, calls):
  arguments = [word for name in names for word in ("--with", name)]
  assert launch(clone, "setup", *arguments).returncode == 0
  assert pip_calls(clone) == [BASE, *calls]
  for later in (["setup", *arguments], ["setup"], ["demo"]):
    assert "installing" not in launch(clone, *later).stderr
  assert pip_calls(clone) == []


def test_an_extra_comes_into_the_same_venv_later(clone):
  launch(clone, "demo")
  launch(clone, "setup", "--with", "hub")
  assert pip_calls(clone) == [BASE, HUB]
  (clone / "requirements-hub.txt").write_text("# nothing new\n")
  assert "installing" not in launch(clone, "demo").stderr
  launch(clone, "setup", "--with", "hub")
  assert pip_calls(clone) == [HUB]


def test_an_extra_that_could_not_be_installed_is_tried_again(clone):
  launch(clone, "setup")
  pip = next(clone.glob(".venv/lib/*/site-packages/pip/__main__.py"))
  works = pip.read_text()
  pip.write_text("import sys; sys.exit('no such version')")
  failed = launch(clone, "setup", "--with", "hub")
  assert failed.returncode == 2 and "no such version" in failed.stderr
  pip.write_text(works)
  assert launch(clone, "setup", "--with", "hub").returncode == 0
  assert pip_calls(clone) == [BASE, HUB]


def test_what_ours_is_compared_with_has_an_environment_of_its_own(clone):
  (clone / "requirements-search.txt").write_text("# nothing\n")
  first = launch(clone, "bench", "vit_forward")
  assert first.stdout == "['--compare', 'torch', 'vit_forward']\n", first.stderr
  assert pip_calls(clone) == [BASE, SEARCH, "-r requirements-bench.txt"]
  pip = next(clone.glob(".venv-bench/lib/*/site-packages/pip"))
  assert pip.is_dir() and "making .venv-bench" in first.stderr
  assert launch(clone, "bench").stderr == ""
  shutil.rmtree(pip)
  assert "making .venv-bench" in launch(clone, "bench").stderr


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


@pytest.mark.parametrize("command", ["local", "slurm", "tpu", "k8s"])
def test_many_processes_are_started_by_python_with_the_arguments_as_they_are(clone, command):
  result = launch(clone, command, "2", "--", "some.main", "a b", "--help")
  assert result.stdout == f"{[command, '2', '--', 'some.main', 'a b', '--help']}\n", result.stderr


@pytest.mark.parametrize(("accelerator", "calls"), [("cpu", []), ("cuda", [CUDA]), ("tpu", [TPU])])
def test_what_an_accelerator_needs_is_set_up_on_top_once(clone, accelerator, calls):
  assert launch(clone, "setup", "--accelerator", accelerator).returncode == 0
  assert pip_calls(clone) == [BASE, *calls]
  for later in (["setup", "--accelerator", accelerator], ["setup"], ["demo"]):
    assert launch(clone, *later).stderr.count("installing") == 0
  assert pip_calls(clone) == []


def test_later_commands_keep_the_accelerator_when_the_pins_change(clone):
  launch(clone, "setup", "--accelerator", "cuda")
  for name in ("", "-cuda"):
    (clone / f"requirements{name}.txt").write_text("# nothing new\n")
  launch(clone, "demo")
  assert pip_calls(clone) == [BASE, CUDA, BASE, CUDA]


@pytest.mark.parametrize("damage", ["broken", "put aside"])
def test_a_venv_that_is_made_again_keeps_the_accelerator(clone, damage):
  launch(clone, "setup", "--accelerator", "tpu")
  (clone / ".venv/bin/python").unlink()
  if damage == "put aside":  # as where making the new one was killed
    (clone / ".venv").rename(clone / ".venv.broken")
  assert launch(clone, "demo").stdout == "[]\n"
  assert pip_calls(clone) == [BASE, TPU, BASE, TPU]


def test_an_accelerator_comes_into_the_same_venv_and_another_makes_it_anew(clone):
  launch(clone, "setup")
  first = launch(clone, "setup", "--accelerator", "cuda").stderr
  assert "making" not in first and pip_calls(clone) == [BASE, CUDA]
  second = launch(clone, "setup", "--accelerator", "cpu").stderr
  assert ".venv is for cuda: making it again" in second
  assert launch(clone, "demo").stderr == ""
  assert pip_calls(clone) == [BASE]


def test_an_accelerator_that_could_not_be_installed_is_tried_again(clone):
  launch(clone, "setup")
  pip = next(clone.glob(".venv/lib/*/site-packages/pip/__main__.py"))
  works = pip.read_text()
  pip.write_text("import sys; sys.exit('no such version')")
  assert launch(clone, "setup", "--accelerator", "cuda").returncode == 2
  pip.write_text(works)
  assert launch(clone, "demo").returncode == 0
  assert pip_calls(clone) == [BASE, CUDA]


@pytest.mark.parametrize("name", ["cuda", "tpu"])
def test_an_accelerator_gets_the_jax_that_is_pinned(name):
  jax = re.search(r"^jax==(.*)$", (REPO / "requirements.txt").read_text(), re.MULTILINE)[1]
  text = (REPO / f"requirements-{name}.txt").read_text()
  pins = re.findall(r"^jax[\w\[\]-]*==(.*)$", text, re.MULTILINE)
  assert set(pins) == {jax}
