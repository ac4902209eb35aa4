"""The command sbir.export: what it refuses, what it prints, and once as users run it."""

import pytest
from PIL import Image

from sbir import cli, export, trees
from tests.exports import needs_onnx, refused, write
from tests.packages import noise, save_package
from tests.xmodal_runs import start

REFUSED = {  # architecture, flags: part of the message
  ("xmodal-pair", "stablehlo"): "this xmodal-pair holds two networks, and a file one; add "
  "--modality photo or --modality sketch",
  ("xmodal-pair", "timm"): "this xmodal-pair holds two networks",
  ("xmodal-teacher", "timm"): "this xmodal-teacher holds two networks",
  ("xmodal-teacher", "stablehlo", "--pixels"): "--pixels: a teacher sees a photo and a sketch "
  "together",
  ("xmodal-teacher", "stablehlo", "--modality", "photo"): "a teacher takes photos and sketches "
  "together; leave --modality out",
  ("xmodal-student", "stablehlo", "--modality", "sketch"): "this model takes photo alone",
  ("vit", "timm", "--half"): "--half is of onnx and stablehlo; leave it out with --format timm",
  ("vit", "timm", "--dynamic-batch"): "--dynamic-batch is of onnx and stablehlo",
  ("vit", "jax"): "invalid choice: 'jax'",
  (
    "vit",
    "stablehlo",
    "--gallery",
    "/nowhere/at/all",
  ): "data folder /nowhere/at/all does not exist",
  ("vit", "stablehlo", "--gallery", ""): "'' is empty",
  ("vit", "stablehlo", "--batch", "5"): "unrecognized arguments: --batch",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  root = tmp_path_factory.mktemp("packages")
  names = {architecture for architecture, *_ in REFUSED}
  return {name: save_package(root / name, name) for name in names}


@pytest.mark.parametrize("asked", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(folders, tmp_path, capfd, asked):
  architecture, form, *flags = asked
  out = tmp_path / "file"
  arguments = ["--model", folders[architecture], "--format", form, "--out", out, *flags]
  line = refused(capfd, *arguments)
  assert line.startswith("error: ") and REFUSED[asked] in line
  assert not out.exists()


@pytest.mark.parametrize(
  ("out", "message"),
  [
    ("no/such/file", "there is no folder"),
    (".", "is a folder, expected a file"),
    ("", "'' is empty"),
  ],
)
def test_a_place_that_cannot_be_written_is_refused_first(
  tmp_path, capfd, monkeypatch, out, message
):
  monkeypatch.chdir(tmp_path)
  line = refused(capfd, "--model", "not/looked/at", "--format", "stablehlo", "--out", out)
  assert message in line


def test_a_folder_that_is_no_package_is_refused(tmp_path, capfd):
  line = refused(capfd, "--model", tmp_path, "--format", "timm", "--out", tmp_path / "a")
  assert "is no model package" in line


def test_a_file_that_is_there_is_replaced(tmp_path):
  (tmp_path / "exported").write_bytes(b"old")
  write(tmp_path, "vit", "timm")
  first = (tmp_path / "exported").read_bytes()
  write(tmp_path, "vit", "timm", seed=1)
  assert (tmp_path / "exported").read_bytes() != first
  assert sorted(path.name for path in tmp_path.iterdir()) == ["exported", "package"]


def test_the_table_tells_sizes_names_and_what_was_checked(tmp_path, capsys):
  _, path = write(tmp_path, "pskd", "stablehlo", "--half", "--dynamic-batch")
  head, *rows = capsys.readouterr().out.splitlines()
  told = {row[2:38].strip(): row[38:] for row in rows}
  assert head == f"{path}: stablehlo of {tmp_path / 'package'} (pskd)"
  assert told["takes"] == "photo float32[b, 16, 16, 3], b: any number"
  assert told["gives"].startswith("photo float32[b, 12], photo_bottleneck float32[b, 6], ")
  assert told["same nearest 10 photos of 12"].startswith("for 4 of 4 sketches")
  assert told["parameters"].endswith(" of float16")
  assert {"size", "deviation, batch of 1", "deviation, batch of 5", "deviation by rounding"} < {
    *told
  }
  assert "to make" in told["seconds"] and "to check" in told["seconds"]


def test_only_the_parameters_that_are_used_are_counted(tmp_path, capsys):
  model, _ = write(tmp_path, "xmodal-pair", "stablehlo", "--modality", "photo")
  num = sum(leaf.size for leaf in trees.flatten(model.params["photo"]).values())
  assert f"{num:,} of float32" in capsys.readouterr().out


def test_a_gallery_of_ones_own_is_checked_with(tmp_path, capsys):
  (tmp_path / "photos" / "deep").mkdir(parents=True)
  for i, pixels in enumerate(noise(7, side=30)):
    Image.fromarray(pixels).save(tmp_path / "photos" / "deep" / f"{i}.png")
  write(tmp_path, "vit", "stablehlo", "--pixels", "--gallery", f"{tmp_path / 'photos'}")
  assert "same nearest 7 photos of 7" in capsys.readouterr().out


def test_help_teaches_the_formats_and_the_flags(capsys):
  with pytest.raises(SystemExit):
    cli.tool(export.main, ["--help"])
  text = capsys.readouterr().out
  for word in ("--format timm", "--dynamic-batch", "photo_embedding", "setup --with export"):
    assert word in text


@needs_onnx
@pytest.mark.slow
def test_the_command_as_users_run_it(tmp_path):
  folder, out = save_package(tmp_path / "package", "pskd"), tmp_path / "model.onnx"
  arguments = ["-m", "sbir.export", "--model", folder, "--format", "onnx", "--out", out]
  ended = start(*arguments, "--pixels", "--half", "--dynamic-batch")
  assert ended.returncode == 0, ended.stderr
  assert "embedding float32[b, 12]" in ended.stdout
  assert "Traceback" not in ended.stderr and "WARNING" not in ended.stderr
  only_runtime = (
    "import sys, numpy, onnxruntime; "
    f"session = onnxruntime.InferenceSession({str(out)!r}, providers=['CPUExecutionProvider']); "
    "found = session.run(None, {'photo': numpy.zeros((2, 16, 16, 3), 'uint8')})[0]; "
    "print(found.shape, 'jax' in sys.modules)"
  )
  assert start("-c", only_runtime).stdout == "(2, 12) False\n"
