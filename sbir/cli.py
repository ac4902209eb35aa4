"""The command line: configs, overrides, and every user's mistake as one line with exit status 2.

Nothing heavy is imported here, so that `--help` and a mistyped flag answer at once.
"""

import argparse
import ast
import difflib
import errno
import importlib.util
import inspect
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from sbir import host_memory, processes
from sbir.processes import EXIT_STOPPED
from sbir.user_error import UserError

if TYPE_CHECKING:
  from ml_collections import ConfigDict

NO_COMPILE_CACHE = "--no-compile-cache"
HELP = ("-h", "--help")
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def run(
  main: Callable[..., Any], argv: Sequence[str] | None = None, *, has_workdir: bool = True
) -> NoReturn:
  """Parses --config, --workdir and overrides, calls `main(config, workdir)`, and exits; without a
  workdir of its own, `main(config)`.

  The help text is the docstring of the module that defines `main`. A main imports what is heavy
  inside itself, so that nothing of it is loaded before the arguments are known to be good.
  """

  def with_config(arguments: Sequence[str]) -> Any:
    overrides, rest = split_overrides(arguments)
    flags = parser(inspect.getmodule(main).__doc__)
    flags.add_argument("--config", required=True, metavar="FILE.py:NAME", help="what to run")
    if has_workdir:
      flags.add_argument(
        "--workdir", required=True, metavar="DIR", type=folder, help="the run folder"
      )
    flags.add_argument("--config.KEY", metavar="VALUE", help="override one value of the config")
    options = flags.parse_args(rest)
    config = load_config(options.config, overrides)
    return main(config, options.workdir) if has_workdir else main(config)

  tool(with_config, argv)


def tool(main: Callable[[Sequence[str]], Any], argv: Sequence[str] | None = None) -> NoReturn:
  """Calls `main(arguments)` and exits: 0, or what it returns; 2 with one line for a UserError."""
  arguments = list(sys.argv[1:] if argv is None else argv)
  keeps_programs = NO_COMPILE_CACHE not in arguments
  _set_up_libraries(keeps_programs)
  _end_politely_on_sigterm()
  try:
    flags, rest = processes.split_flags(arguments)
    if not set(HELP) & set(rest):
      host_memory.keep_freed_on_cpu()
      processes.join(flags)
    status = main([argument for argument in rest if argument != NO_COMPILE_CACHE])
  except KeyboardInterrupt:
    print(
      "interrupted; run again, a training goes on from its last checkpoint, an index where it was",
      file=sys.stderr,
    )
    sys.exit(EXIT_INTERRUPTED)
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    fail(f"{error.filename or 'a file'} cannot be written ({error.strerror}); make room, run again")
  except UserError as error:
    fail(str(error))
  sys.exit(status if isinstance(status, int) else 0)


def _end_politely_on_sigterm() -> None:
  """Makes SIGTERM end a main with EXIT_STOPPED, for nothing that takes long is lost by that; while
  it trains, a run has a handler of its own (`sbir.stopping`)."""

  def end(*_: object) -> NoReturn:
    print("SIGTERM: ended; run the same command again, and what can go on goes on", file=sys.stderr)
    sys.exit(EXIT_STOPPED)

  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, end)


def _set_up_libraries(keeps_programs: bool) -> None:
  """Sets what jax and absl read at their start; neither is slow to be told so here."""
  from absl import flags, logging

  # Compiled programs are kept between processes: a resumed run, or the next stage, starts at once.
  if not keeps_programs:
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
  os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache_dir())
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  flags.FLAGS(sys.argv[:1])  # Grain's worker processes refuse to start before absl has its flags
  logging.set_verbosity(logging.ERROR)


def fail(message: str) -> NoReturn:
  """Prints the message as one line on stderr and exits with status 2."""
  print("error: " + re.sub(r"\s*\n\s*", " ", message.strip()), file=sys.stderr)
  sys.exit(EXIT_USER_ERROR)


def cache_dir() -> Path:
  """Returns where compiled programs are kept: JAX_COMPILATION_CACHE_DIR, or the user's cache."""
  if chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    return Path(chosen)
  base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(base) / "sketch-retrieval" / "jax"


class _Parser(argparse.ArgumentParser):
  """An argparse parser whose errors are one line, with the near names of an unknown flag."""

  def error(self, message: str) -> NoReturn:
    unknown = re.match(r"unrecognized arguments: (--?[^\s=]+)", message)
    if unknown:
      near = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1)
      message += f"; nearest: {near[0]}" if near else ""
    fail(f"{message} (see --help)")


def parser(doc: str | None) -> argparse.ArgumentParser:
  """Returns an argparse parser that shows `doc` as it stands and reports mistakes in one line."""
  spec = sys.modules["__main__"].__spec__
  prog = f"python -m {spec.name.removesuffix('.__main__')}" if spec else None
  flags = _Parser(
    prog=prog,
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  kept_in = str(cache_dir()).replace("%", "%%")  # argparse fills in what a % begins
  flags.add_argument(  # for --help alone: `tool` has taken it out
    NO_COMPILE_CACHE,
    action="store_true",
    help=f"compile everything anew; else compiled programs are kept in {kept_in}",
  )
  several = flags.add_argument_group(
    "several processes", "all three in each; under SLURM's srun and on TPU pods none is needed"
  )
  several.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
  several.add_argument("--num-processes", metavar="N", help="how many there are")
  several.add_argument("--process-id", metavar="I", help="which one this is, from 0")
  return flags


def folder(text: str) -> str:
  """Returns `text`, the value of a flag that names a folder, unless it is empty.

  An empty one, of a shell variable that is not set, would mean the current folder.
  """
  if not text.strip():
    raise argparse.ArgumentTypeError("'' is empty, expected the path of a folder")
  return text


def split_overrides(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
  """Returns ({key: text} of every --config.key=text or --config.key text, the other arguments)."""
  overrides: dict[str, str] = {}
  rest: list[str] = []
  left = list(arguments)
  while left:
    argument = left.pop(0)
    found = re.fullmatch(r"--?config\.([^=]+)(?:=(.*))?", argument, re.DOTALL)
    if not found:
      rest.append(argument)
    elif found[2] is not None:
      overrides[found[1]] = found[2]
    elif left and not left[0].startswith("--"):
      overrides[found[1]] = left.pop(0)
    else:
      fail(f"{argument} has no value; write {argument}=VALUE")
  return overrides, rest


def load_config(spec: str, overrides: Mapping[str, str] | None = None) -> "ConfigDict":
  """Returns the locked config that "path/file.py:name" stands for, with the overrides applied.

  A relative path is looked up in the current folder, then where the `configs` package lies.
  Raises: UserError for an unknown file, name or key (with the near ones) or a value of wrong type.
  """
  file, _, name = spec.partition(":")
  module = _load_module(file)
  if not hasattr(module, "get_config"):
    raise UserError(
      f"--config {spec}: the file has no get_config, expected a config such as "
      "configs/xmodal/teacher.py:demo"
    )
  takes_no_name = not name and _callable_without_name(module.get_config)
  try:
    config = module.get_config() if takes_no_name else module.get_config(name)
  except ValueError as error:
    raise UserError(f"--config {spec}: {error}") from None
  config.lock()
  for key, text in (overrides or {}).items():
    _override(config, key, text)
  return config


def _callable_without_name(function: Callable[..., Any]) -> bool:
  try:
    inspect.signature(function).bind()
  except TypeError:
    return False
  return True


def _load_module(file: str) -> ModuleType:
  path = Path(file)
  if not os.path.isfile(path) and not path.is_absolute():
    import configs

    path = Path(configs.__file__).parent.parent / file
  if not os.path.isfile(path):  # false for a name that is too long, too
    folder = path.parent if os.path.isdir(path.parent) else Path()
    there = sorted(str(Path(file).parent / p.name) for p in folder.glob("[!_]*.py"))
    near = difflib.get_close_matches(file, there, n=1) or there or ["configs/xmodal/teacher.py"]
    raise UserError(f"--config {file}: there is no such file; nearest: {near[0]}")
  if path.suffix != ".py":  # Python would load a compiled library too
    raise UserError(
      f"--config {file}: expected a Python file with get_config, such as configs/xmodal/teacher.py"
    )
  spec = importlib.util.spec_from_file_location("_config", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def config_keys(config: "ConfigDict", prefix: str = "") -> list[str]:
  """Returns the dotted names of all values in a config, groups opened up."""
  from ml_collections import ConfigDict

  names: list[str] = []
  for name in config:
    value, dotted = config[name], f"{prefix}{name}"
    names += config_keys(value, f"{dotted}.") if isinstance(value, ConfigDict) else [dotted]
  return names


def _override(config: "ConfigDict", key: str, text: str) -> None:
  """Sets config[key] to what `text` says, read as the type the key already has."""
  known, shown = config_keys(config), text if len(text) <= 100 else f"{text[:97]}..."
  if key not in known:
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    near = near or [name for name in known if name.startswith(key)][:3]
    hint = f"nearest: {', '.join(near)}" if near else f"keys: {', '.join(known)}"
    raise UserError(f"--config.{key}={shown}: there is no such key in the config; {hint}")
  *groups, name = key.split(".")
  for group in groups:
    config = config[group]
  kind, default = config.get_type(name), config[name]
  try:
    config[name] = _read(text, kind)
  except (TypeError, KeyError, ValueError, OverflowError):
    raise UserError(
      f"--config.{key}={shown}: expected {kind.__name__}, like {default!r}, the default"
    ) from None


def _read(text: str, kind: type) -> Any:
  """Returns the value written in `text` for a key of type `kind`; TypeError or KeyError if none."""
  if kind is str:
    return text
  if kind is bool:
    return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
  try:
    value = ast.literal_eval(text)
  except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):  # of deep brackets
    value = text
  is_wrong = value is None or isinstance(value, bool)  # ConfigDict would take both for a number
  if is_wrong and kind in (int, float):
    raise TypeError(text)
  return value
