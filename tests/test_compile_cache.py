"""Compiled programs are kept between processes, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

from tests.paths import REPO

MAIN = """
from sbir import cli

def main(arguments):
  cli.parser("Adds.").parse_args(arguments)
  import jax
  print(jax.jit(lambda x: x + 1)(1.0))

cli.tool(main)
"""


def run(cache, *arguments):
  environment = os.environ | {
    "JAX_COMPILATION_CACHE_DIR": str(cache),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  command = [sys.executable, "-c", MAIN, *arguments]
  return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(("arguments", "keeps"), [((), True), (("--no-compile-cache",), False)])
def test_programs_are_kept_unless_told_otherwise(tmp_path, arguments, keeps):
  done = run(tmp_path / "cache", *arguments)
  assert done.stdout == "2.0\n", done.stderr
  kept = list((tmp_path / "cache").rglob("*")) if (tmp_path / "cache").exists() else []
  assert bool(kept) == keeps


def test_help_names_the_flag_and_the_folder(tmp_path):
  text = " ".join(run(tmp_path / "50%", "--help").stdout.split())
  assert "--no-compile-cache" in text and "50%" in text.replace(" ", "")
