"""Imports run down the floors only, and a library with a cost has one door."""

import ast
import importlib.metadata
import re
import subprocess
import sys

import pytest

from tests.paths import REPO

# The longest prefix that fits decides. Floor 0 holds words, 1 pure functions, 2 edges to the world,
# 3 the run, 4 the methods; a module imports its own floor or those below.
FLOORS = {
  "sbir.types": 0,
  "sbir.user_error": 0,
  "sbir.trees": 0,
  "sbir.progress": 0,
  "sbir.processes": 0,
  "sbir.path_free": 0,
  "sbir.places": 0,
  "sbir.remote_path": 0,
  "sbir.user_path": 0,
  "sbir.network": 1,
  "sbir.nn": 1,
  "sbir.retrieval": 1,
  "sbir.optim": 1,
  "sbir.mesh": 1,
  "sbir.layout": 1,
  "sbir.health": 1,
  "sbir.submit": 1,
  "sbir.kubernetes_job": 1,
  "sbir.data.augment": 1,
  "sbir.data.colour": 1,
  "sbir.data": 2,
  "sbir.preprocessing": 2,
  "sbir.network_config": 2,
  "sbir.plain_vit": 2,
  "sbir.weight_rules": 2,
  "sbir.vit_rules": 2,
  "sbir.npz_file": 2,
  "sbir.pretrained": 2,
  "sbir.package_folder": 2,
  "sbir.model_card": 2,
  "sbir.torch_file": 2,
  "sbir.torch_pickle": 2,
  "sbir.safetensors_file": 2,
  "sbir.weight_files": 2,
  "sbir.hub": 2,
  "sbir.local_copy": 2,
  "sbir.onnx_file": 2,
  "sbir.stablehlo_file": 2,
  "sbir.timm_names": 2,
  "sbir.exported": 2,
  "sbir.export_images": 2,
  "sbir.export_check": 2,
  "sbir.host_memory": 2,
  "sbir.rehearse": 2,
  "sbir.run_folder": 2,
  "sbir.stored_rows": 2,
  "sbir.checkpoint": 2,
  "sbir.checksums": 2,
  "sbir.run_lock": 2,
  "sbir.remote_checkpoints": 2,
  "sbir.logs": 2,
  "sbir.drawing": 2,
  "sbir.plots": 2,
  "sbir.plots_category": 2,
  "sbir.plots_closer": 2,
  "sbir.hidden_parts": 2,
  "sbir.projection": 2,
  "sbir.html_report": 2,
  "sbir.embedding_file": 2,
  "sbir.gallery": 2,
  "sbir.faiss_gallery": 2,
  "sbir.milvus_gallery": 2,
  "sbir.sqlite_file": 2,
  "sbir.photo_schema": 2,
  "sbir.photo_table": 2,
  "sbir.photo_folder": 2,
  "sbir": 3,
  "sbir.data.prepare": 3,  # mains: they parse arguments
  "sbir.data.doctor": 3,
  "xmodal": 4,
  "pskd": 4,
  "sbir.models": 5,
  "sbir.attention_maps": 5,
  "sbir.convert": 5,
  "sbir.package": 5,
  "sbir.export": 5,
  "sbir.export_program": 5,
  "sbir.model_identity": 5,
  "sbir.photo_shards": 5,
  "sbir.index": 5,
  "sbir.index_build": 5,
  "sbir.index_check": 5,
  "sbir.index_search": 5,
  "sbir.encode": 5,
}
FRONT_DOOR = "sbir"
DOORS = {
  "orbax": {"sbir.checkpoint"},
  "clu": {"sbir.logs"},
  # One door for reading images, one for drawing them (and a sheet of the drawings to look at).
  "PIL": {"sbir.data.images", "sbir.data.synthetic_raster", "sbir.data.synthetic_sheet"},
  "matplotlib": {"sbir.drawing", "sbir.plots", "sbir.plots_category"},
  "sklearn": {"sbir.projection"},
  "tensorflow_datasets": {"sbir.data.tfds_source"},
  "grain": {"sbir.data.pipeline"},
  "safetensors": {"sbir.safetensors_file"},
  "huggingface_hub": {"sbir.hub"},
  "jax2onnx": {"sbir.onnx_file"},
  "onnx": {"sbir.onnx_file"},
  "onnxruntime": {"sbir.onnx_file"},
  "etils": {"sbir.remote_path"},
  "fsspec": {"sbir.remote_path"},
  "faiss": {"sbir.faiss_gallery"},
  "pymilvus": {"sbir.milvus_gallery"},
}
# jax imports etils itself.
HEAVY = [*DOORS.keys() - {"etils"}, "tensorflow", "tensorboard"]


def modules():
  """Returns {dotted name: path} of our own files."""
  paths = [p for top in ("sbir", "xmodal", "pskd", "configs") for p in (REPO / top).rglob("*.py")]
  names = [".".join(p.relative_to(REPO).with_suffix("").parts) for p in paths]
  return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def imports(path, known):
  """Returns the dotted names that a file imports anywhere, also inside functions."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: write the import out, without leading dots"
      parts = {f"{node.module}.{alias.name}" for alias in node.names}
      submodules = parts & known
      found |= submodules
      if len(submodules) < len(parts):
        found.add(node.module)
  return found


def floor(name):
  fitting = [prefix for prefix in FLOORS if f"{name}.".startswith(f"{prefix}.")]
  return FLOORS[max(fitting, key=len)]


STANDARD = set(sys.stdlib_module_names)
OURS = modules()
IMPORTS = {name: imports(path, set(OURS)) for name, path in OURS.items()}


def is_ours(name):
  return name.split(".")[0] in ("sbir", "xmodal", "pskd", "configs")


UNDER_A_ROOF = [n for n in OURS if not n.startswith("configs") and n != FRONT_DOOR]


@pytest.mark.parametrize("name", sorted(UNDER_A_ROOF))
def test_no_import_goes_up(name):
  ours = [other for other in IMPORTS[name] if is_ours(other) and not other.startswith("configs")]
  assert [other for other in ours if floor(other) > floor(name)] == []


@pytest.mark.parametrize(("method", "other"), [("xmodal", "pskd"), ("pskd", "xmodal")])
def test_the_methods_do_not_know_each_other(method, other):
  ours = [name for name in OURS if name.split(".")[0] == method]
  assert [name for name in ours if any(i.split(".")[0] == other for i in IMPORTS[name])] == []


@pytest.mark.parametrize("name", sorted(name for name in OURS if name.startswith("configs")))
def test_configs_import_nothing_of_ours_but_other_configs(name):
  assert {other.split(".")[0] for other in IMPORTS[name]} <= {
    "configs",
    *STANDARD,
    "ml_collections",
  }


@pytest.mark.parametrize("library", DOORS)
def test_a_costly_library_has_one_door(library):
  users = {name for name in OURS if any(i.split(".")[0] == library for i in IMPORTS[name])}
  assert users <= DOORS[library]


def pinned_in(files):
  """Returns the libraries that requirement files pin, as we would import them."""
  text = "\n".join(path.read_text() for path in files)
  pins = re.findall(r"^([\w.-]+)==\S+$", text, re.MULTILINE)
  plain = lambda name: name.lower().replace("_", "-")
  pinned = {plain(name) for name in pins}
  sold_as = importlib.metadata.packages_distributions()
  return {library for library, names in sold_as.items() if {*map(plain, names)} & pinned}


def libraries_of(imported):
  return {name.split(".")[0] for name in imported if not is_ours(name)} - STANDARD


def imports_at_once(path):
  """Returns the dotted names that importing a file imports: not those inside functions."""
  body = ast.parse(path.read_text()).body
  plain = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
  return plain | {node.module for node in body if isinstance(node, ast.ImportFrom)}


OPTIONAL = set(REPO.glob("requirements-*.txt")) - {REPO / "requirements-test.txt"}


def test_every_library_we_import_is_pinned():
  pinned = pinned_in({REPO / "requirements.txt"} | OPTIONAL)
  assert libraries_of(set().union(*IMPORTS.values())) - pinned == set()


def test_what_is_optional_is_imported_inside_functions_only():
  pinned = pinned_in([REPO / "requirements.txt"])
  at_once = {name: libraries_of(imports_at_once(path)) - pinned for name, path in OURS.items()}
  assert {name: found for name, found in at_once.items() if found} == {}


@pytest.mark.parametrize("name", ["sbir.step", "sbir.cli"])
def test_the_step_and_the_command_line_import_without_heavy_libraries(name):
  code = f"import sys, {name}; print([m for m in {HEAVY} if m in sys.modules])"
  result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
  assert result.stdout == "[]\n", result.stderr


def test_the_front_door_opens_nothing_until_it_is_called():
  code = "import sys, sbir; print([m for m in sys.modules if m.startswith(('jax', 'sbir.'))])"
  result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
  assert result.stdout == "[]\n", result.stderr


def test_a_model_is_used_without_what_only_training_needs():
  heavy = [name for name in HEAVY if name not in ("PIL", "safetensors")]
  code = f"import sys, sbir.models; print([m for m in {[*heavy, 'optax']} if m in sys.modules])"
  result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
  assert result.stdout == "[]\n", result.stderr
