"""Several stages, one after another, from one command: their configs, found by name and linked."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sbir import cli

if TYPE_CHECKING:
  from ml_collections import ConfigDict


class Request(NamedTuple):
  """What a pipeline's command line asks for."""

  name: str  # of the configs
  workdir: str
  overrides: dict[str, str]


def parse(arguments: Sequence[str], doc: str | None) -> Request:
  """Returns what `NAME --data DIR --workdir W --config.KEY=VALUE ...` asks for."""
  overrides, rest = cli.split_overrides(arguments)
  flags = cli.parser(doc)
  flags.add_argument("name", metavar="NAME", help="which config (the names are above)")
  flags.add_argument("--data", default="", metavar="DIR", help="the data folder (demo: none)")
  flags.add_argument(
    "--workdir", required=True, metavar="W", type=cli.folder, help="where the run folders go"
  )
  flags.add_argument("--config.KEY", metavar="VALUE", help="override a value in every stage")
  options = flags.parse_args(rest)
  if options.data:
    overrides = {"data.dir": options.data, **overrides}
  return Request(options.name, options.workdir, overrides)


class DemoRequest(NamedTuple):
  """What a demo's command line asks for."""

  workdir: str
  as_json: bool
  overrides: dict[str, str]


def parse_demo(arguments: Sequence[str], doc: str | None, workdir: str) -> DemoRequest:
  """Returns what `--workdir W --json --config.KEY=VALUE ...` asks for; `workdir` is the default."""
  overrides, rest = cli.split_overrides(arguments)
  flags = cli.parser(doc)
  flags.add_argument(
    "--workdir", default=workdir, metavar="W", type=cli.folder, help=f"run folder ({workdir})"
  )
  flags.add_argument("--json", action="store_true", help="end with one JSON object on one line")
  flags.add_argument("--config.KEY", metavar="VALUE", help="override a value in every stage")
  options = flags.parse_args(rest)
  return DemoRequest(options.workdir, options.json, overrides)


def load_configs(
  files: Mapping[str, str],
  name: str,
  overrides: Mapping[str, str],
  links: Mapping[str, Mapping[str, str]],
) -> dict[str, "ConfigDict"]:
  """Returns {stage: the locked config `name` of files[stage]}, in the order of `files`.

  An override goes to every stage that has its key; `links` are values of single stages, such as
  the run folders of the stages before them.

  Raises: UserError for an unknown name, or an override that no stage has.
  """
  plain = {stage: cli.load_config(f"{file}:{name}") for stage, file in files.items()}
  keys = {stage: set(cli.config_keys(config)) for stage, config in plain.items()}
  first = next(iter(files))
  for key in overrides.keys() - set.union(*keys.values()):
    cli.load_config(f"{files[first]}:{name}", {key: overrides[key]})  # raises, with near names
  return {
    stage: cli.load_config(
      f"{file}:{name}",
      {key: text for key, text in overrides.items() if key in keys[stage]} | dict(links[stage]),
    )
    for stage, file in files.items()
  }
