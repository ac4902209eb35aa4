import os
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from configs.common import pick
from sbir import cli
from sbir.types import UserError
from tests.paths import REPO

CONFIG = """
from ml_collections import ConfigDict, config_dict
from configs.common import pick

def demo():
  return ConfigDict({
    "steps": 10, "rate": 0.1, "flip": True, "size": (1, 2), "teacher": "",
    "data": {"dir": "", "seed": 0}, "limit": config_dict.placeholder(int),
  })

def get_config(name):
  return pick(name, {"demo": demo, "shoe_v2": demo, "chair_v2": demo})()
"""
MAIN = '''"""Trains a toy.

  python -m toy --config FILE.py:demo --workdir runs/toy
"""
import sys
from sbir import cli

def main(config, workdir):
  from sbir.types import UserError
  raise UserError(f"steps={config.steps} is\\n  - too few; take more")

if __name__ == "__main__":
  cli.run(main)
'''


@pytest.fixture
def config_file(tmp_path):
  (tmp_path / "toy.py").write_text(CONFIG)
  return tmp_path / "toy.py"


def call(main, arguments, capsys):
  """Returns (exit status, stderr) of cli.run, in this process."""
  with pytest.raises(SystemExit) as stopped:
    cli.run(main, [str(argument) for argument in arguments])
  return stopped.value.code, capsys.readouterr().err


def test_overrides_are_read_as_the_type_the_key_has(config_file):
  texts = {"steps": "5", "rate": "3", "flip": "false", "size": "(3, 4)", "data.dir": "1"}
  config = cli.load_config(f"{config_file}:demo", {**texts, "limit": "7"})
  assert config.to_dict() == {
    "steps": 5,
    "rate": 3.0,
    "flip": False,
    "size": (3, 4),
    "teacher": "",
    "data": {"dir": "1", "seed": 0},
    "limit": 7,
  }


def test_a_config_is_locked(config_file):
  config = cli.load_config(f"{config_file}:demo")
  assert isinstance(config, ConfigDict) and config.is_locked


def test_main_gets_the_config_and_the_folder(config_file, capsys):
  seen = []
  arguments = ["--config", f"{config_file}:demo", "--workdir=w", "--config.data.seed", "3"]
  status, _ = call(
    lambda config, workdir: seen.append((config.data.seed, workdir)), arguments, capsys
  )
  assert status == 0
  assert seen == [(3, "w")]


def test_the_status_of_a_tool_is_what_it_returns():
  with pytest.raises(SystemExit) as stopped:
    cli.tool(lambda arguments: len(arguments), ["a", "b", "c"])
  assert stopped.value.code == 3


def test_a_main_of_no_run_folder_gets_the_config_alone_and_refuses_a_workdir(config_file, capsys):
  seen, spec = [], f"--config={config_file}:demo"
  for arguments, status in (([spec], 0), ([spec, "--workdir=w"], 2)):
    with pytest.raises(SystemExit) as stopped:
      cli.run(lambda config: seen.append(config.steps), arguments, has_workdir=False)
    assert stopped.value.code == status
  assert seen == [10]
  assert "unrecognized arguments: --workdir=w" in capsys.readouterr().err


def test_a_mistake_of_ours_keeps_its_traceback():
  def broken(arguments):
    raise ValueError("not the user's")

  with pytest.raises(ValueError, match="not the user's"):
    cli.tool(broken, [])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--config.stepz=1"], "--config.stepz=1: there is no such key in the config; nearest: steps"),
    (["--config.dir=1"], "no such key in the config; nearest: data.dir"),
    (["--config.data=1"], "no such key in the config; nearest: data.dir, data.seed"),
    (["--config.steps=1e3"], "--config.steps=1e3: expected int, like 10, the default"),
    (["--config.steps=many"], "expected int, like 10"),
    (["--config.steps=True"], "expected int, like 10"),
    (["--config.steps=None"], "expected int, like 10"),
    (["--config.rate=fast"], "expected float, like 0.1"),
    (["--config.flip=maybe"], "expected bool, like True"),
    (["--config.size=3"], "expected tuple, like (1, 2)"),
    (["--config.limit=a"], "expected int"),
    (["--config.steps"], "--config.steps has no value; write --config.steps=VALUE"),
    (["--wrkdir=w"], "unrecognized arguments: --wrkdir=w; nearest: --workdir (see --help)"),
    (["surplus"], "unrecognized arguments: surplus"),
  ],
)
def test_a_mistyped_argument_is_one_line_and_status_2(arguments, message, config_file, capsys):
  called = []
  good = ["--config", f"{config_file}:demo", "--workdir", "w"]
  status, stderr = call(lambda *_: called.append(1), good + arguments, capsys)
  assert status == 2
  assert stderr.startswith("error: ") and stderr.count("\n") == 1
  assert message in stderr
  assert not called


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("toy.py:shoe", "config name 'shoe' is unknown; nearest: shoe_v2"),
    ("toy.py:xyz", "config name 'xyz' is unknown; choose one of chair_v2, demo, shoe_v2"),
    ("toy.py", "config name '' is unknown; choose one of chair_v2, demo, shoe_v2"),
    ("tow.py:demo", "there is no such file; nearest: "),
  ],
)
def test_an_unknown_config_is_answered_with_the_near_ones(spec, message, config_file, capsys):
  arguments = ["--config", config_file.parent / spec, "--workdir", "w"]
  status, stderr = call(lambda *_: None, arguments, capsys)
  assert status == 2
  assert stderr.count("\n") == 1 and message in stderr


def test_both_flags_are_demanded_at_once(capsys):
  status, stderr = call(lambda *_: None, [], capsys)
  assert status == 2
  assert "the following arguments are required: --config, --workdir" in stderr


def test_a_config_without_names_needs_none(tmp_path):
  (tmp_path / "one.py").write_text(
    "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'steps': 1})"
  )
  assert cli.load_config(str(tmp_path / "one.py")).steps == 1


def test_the_last_of_two_overrides_counts_and_the_rest_is_left():
  overrides, rest = cli.split_overrides(["--config.a=1", "x", "-config.a=2", "--config", "f.py:n"])
  assert overrides == {"a": "2"}
  assert rest == ["x", "--config", "f.py:n"]


def test_pick_returns_the_entry():
  assert pick("a", {"a": 1, "b": 2}) == 1


def test_an_unknown_config_is_the_users_mistake(config_file):
  with pytest.raises(UserError):
    cli.load_config(f"{config_file}:nothing")


@pytest.fixture
def fresh_process(tmp_path, config_file):
  (tmp_path / "main.py").write_text(MAIN)

  def start(*arguments):
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

  return start


def test_help_teaches_with_the_docstring_and_loads_nothing_heavy(fresh_process):
  code = (
    "import runpy, sys; sys.argv = ['main.py', '--help']\n"
    "try: runpy.run_path('main.py', run_name='__main__')\n"
    "except SystemExit as stopped: status = stopped.code\n"
    "sys.exit(status or 'jax' in sys.modules or 'ml_collections' in sys.modules)"
  )
  result = fresh_process("-c", code)
  assert result.returncode == 0, result.stderr
  assert "python -m toy --config FILE.py:demo --workdir runs/toy" in result.stdout
  assert "--config.KEY VALUE" in result.stdout


def test_an_error_of_the_user_is_one_line_without_a_traceback(fresh_process):
  result = fresh_process("main.py", "--config=toy.py:demo", "--workdir=w")
  assert result.returncode == 2
  assert result.stderr == "error: steps=10 is - too few; take more\n"
