"""Model files from and to the Hugging Face hub: hf:org/name[/path/in/repo][@revision].

Cache, offline mode, tokens and progress bars are those of huggingface_hub and its environment
variables (HF_HOME, HF_HUB_OFFLINE, HF_TOKEN). It is optional, so it is imported when asked for.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from sbir import places
from sbir.local_copy import local_copy
from sbir.types import UserError

PREFIX = "hf:"
FORM = "hf:org/name[/path/in/repo][@revision]"
_PART = r"[A-Za-z0-9_][\w.+-]*"  # begins with no dot: neither .. nor hidden files
_REPO = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_PLACE = re.compile(
  rf"hf:(?P<repo>{_REPO})(?:/(?P<file>{_PART}(?:/{_PART})*))?(?:@(?P<revision>{_PART}(?:/{_PART})*))?",
  re.ASCII,
)
LOG_IN = "log in with `hf auth login`"


class Place(NamedTuple):
  """Where on the hub something is."""

  repo: str  # org/name
  file: str | None  # in the repository; None: all of it
  revision: str | None  # branch, tag or commit; None: main


def is_remote(place: str) -> bool:
  """Returns whether a place is on the hub, well-formed or not; all else is a path."""
  return place.startswith(PREFIX)


def parse(place: str) -> Place:
  """Returns the parts of hf:org/name[/path/in/repo][@revision]. Raises: UserError if it is not."""
  match = _PLACE.fullmatch(place)
  if match is None or ".." in (match["revision"] or ""):
    raise UserError(
      f"{place!r} is no place on the hub, expected {FORM}, for instance "
      "hf:google/vit-base-patch16-224/model.safetensors@main"
    )
  return Place(match["repo"], match["file"], match["revision"])


def fetch(place: str, *, files: Sequence[str]) -> Path:
  """Returns the local path of a place: of a path itself, "~" expanded, whether or not it is there;
  of a file on the hub or in a store (gs://, s3://) that file in the cache; of a repository, or a
  folder in a store, the folder in the cache, with those of its files that fit one of the patterns
  `files`. Where a store has nothing, the place itself.

  Raises: UserError if the place is not of the form, huggingface_hub is not installed, or the hub
    and the cache do not have it.
  """
  if not is_remote(place):
    return local_copy(place, files) if places.is_remote(place) else places.expanded(place)
  repo, file, revision = parse(place)
  library = _library(place)
  try:
    if file is not None:
      return Path(library.hf_hub_download(repo, file, revision=revision))
    folder = Path(library.snapshot_download(repo, revision=revision, allow_patterns=list(files)))
  except (
    Exception
  ) as error:  # of the network, the hub, the cache and the disk: there is no one kind
    raise UserError(f"{place} {_reason(library, error, repo)}") from error
  if not any(found.is_file() for pattern in files for found in folder.glob(pattern)):
    where = "the cache" if library.constants.HF_HUB_OFFLINE else "it"
    raise UserError(
      f"{place} has none of {', '.join(files)} in {where}; name the file: {PREFIX}{repo}/FILE"
    )
  return folder


def push(folder: str | os.PathLike[str], repo: str, *, private: bool = True) -> str:
  """Uploads all of a folder to org/name, which is made if it is not there; returns its address.

  `private` is for a repository that is made now: one that exists keeps who may see it.

  Raises: UserError if there is no such folder, the name is not of the form, huggingface_hub is not
    installed, or the hub refuses.
  """
  name = repo.removeprefix(PREFIX)
  if not re.fullmatch(_REPO, name, re.ASCII):
    raise UserError(f"{repo!r} is no repository of the hub, expected org/name")
  if not Path(folder).is_dir():
    raise UserError(f"{folder} is not a folder; give the one to upload to {name}")
  library = _library(f"{PREFIX}{name}")
  try:
    api = library.HfApi()
    url = api.create_repo(name, private=private, exist_ok=True)
    api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload the model")
  except Exception as error:  # as in fetch
    raise UserError(f"{PREFIX}{name} {_reason(library, error, name)}") from error
  return str(url)


def _library(place: str) -> ModuleType:
  try:
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.errors
  except ModuleNotFoundError as error:
    if error.name != "huggingface_hub":
      raise  # it is there, but broken
    raise UserError(
      f"{place} needs huggingface_hub, which is not installed; run ./launch.sh setup --with hub"
    ) from None
  return huggingface_hub


def _reason(library: ModuleType, error: Exception, repo: str) -> str:
  """Returns what went wrong and the next move, in one line."""
  errors, site = library.errors, f"{library.constants.ENDPOINT}/{repo}"
  # Whatever keeps it from the hub, the client says only that the cache has it not.
  cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
  status = getattr(getattr(cause, "response", None), "status_code", None)
  said = " ".join(f"{type(cause or error).__name__}: {cause or error}".split())[:200]
  if isinstance(error, errors.GatedRepoError):  # a kind of the next one
    return f"asks for your name first: request access at {site}, then {LOG_IN}"
  if isinstance(error, errors.RepositoryNotFoundError):
    return f"does not exist, or not for you: check the name, or {LOG_IN}"
  if isinstance(error, errors.RevisionNotFoundError):
    return f"does not exist in this revision; see {site}/commits/main, or leave out @revision"
  if isinstance(error, errors.RemoteEntryNotFoundError):
    return f"does not exist in that repository; see {site}/tree/main"
  if isinstance(error, errors.HFValidationError):
    return f"is no name of a repository ({said}); expected {FORM}"
  if library.constants.HF_HUB_OFFLINE and isinstance(
    error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled
  ):
    return "is not in the cache, and HF_HUB_OFFLINE is set; set HF_HUB_OFFLINE=0 to reach the hub"
  if status in (401, 403):
    return f"is refused by the hub (status {status}): {LOG_IN}, with a token that may do this"
  if isinstance(error, errors.LocalEntryNotFoundError):
    return f"is not in the cache, and the hub cannot be asked; check the network ({said})"
  return f"has failed ({said}); check the network and run it again"
