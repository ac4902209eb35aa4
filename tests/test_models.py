import io

import jax
import numpy as np
import pytest
from PIL import Image

import sbir
from sbir.data.fit import fit_square
from sbir.models import Model
from sbir.preprocessing import Preprocessing
from sbir.types import UserError
from tests.packages import NETWORKS, PLAIN, SIDE, make_package, noise, save_package

OUTPUTS = {  # names and last axes of what each network gives of a photo and a sketch
  "vit": {"photo": 12, "photo_bottleneck": 6, "sketch": 12, "sketch_bottleneck": 6},
  "xmodal-teacher": {"photo": 12, "sketch": 12},
  "xmodal-pair": {"photo": 10, "sketch": 10},
  "pskd": {
    f"{modality}{name}": size
    for modality in ("photo", "sketch")
    for name, size in {"": 12, "_dist": 12, "_bottleneck": 6, "_logits": 3}.items()
  },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  root = tmp_path_factory.mktemp("packages")
  return {name: save_package(root / name, name) for name in NETWORKS}


@pytest.fixture(scope="module")
def pair(folders):
  return sbir.from_pretrained(folders["xmodal-pair"])


@pytest.mark.parametrize("name", OUTPUTS)
def test_forward_gives_the_documented_outputs(folders, name):
  model = sbir.from_pretrained(folders[name])
  view = model.preprocessing.view(noise(3))
  found = model.forward(photo=view, sketch=view)
  assert {key: array.shape for key, array in found.items()} == {
    key: (3, size) for key, size in OUTPUTS[name].items()
  }


def test_a_photo_student_gives_photos_alone(folders):
  model = sbir.from_pretrained(folders["xmodal-student"])
  view = model.preprocessing.view(noise(2))
  assert list(model.forward(photo=view)) == ["photo"]
  with pytest.raises(UserError, match="given sketches, but this model takes photos"):
    model.forward(sketch=view)
  with pytest.raises(UserError, match="given sketches, but this model takes photos"):
    model.encode_sketches(noise(1))


def test_a_teacher_wants_photo_and_sketch_together(folders):
  model = sbir.from_pretrained(folders["xmodal-teacher"])
  for ask in (
    lambda: model.encode_photos(noise(1)),
    lambda: model.forward(photo=model.preprocessing.view(noise(1))),
  ):
    with pytest.raises(UserError, match=r"given photos, but a teacher sees .* together: .*package"):
      ask()


@pytest.mark.parametrize("name", ["vit", "xmodal-pair", "pskd"])
def test_embeddings_are_the_unit_vectors_of_forward(folders, name):
  model = sbir.from_pretrained(folders[name])
  raw = np.asarray(model.forward(sketch=model.preprocessing.view(noise(3)))["sketch"])
  expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
  np.testing.assert_allclose(model.encode_sketches(noise(3)), expected, rtol=1e-5, atol=1e-6)


def test_the_sides_of_a_pair_are_two_networks(pair):
  assert np.abs(pair.encode_photos(noise(2)) - pair.encode_sketches(noise(2))).max() > 0.1


def test_one_image_in_every_form_has_one_embedding(pair, tmp_path):
  pixels = np.ascontiguousarray(noise(1, side=30)[0, :, :20])
  Image.fromarray(pixels).save(tmp_path / "a.png")
  data = io.BytesIO()
  Image.fromarray(pixels).save(data, "PNG")
  forms = [
    pixels,
    Image.fromarray(pixels),
    tmp_path / "a.png",
    str(tmp_path / "a.png"),
    data.getvalue(),
    fit_square(pixels, SIDE, "stretch"),
  ]
  found = pair.encode_photos(forms)
  np.testing.assert_array_equal(found, np.repeat(found[:1], len(forms), axis=0))


def test_gray_and_transparent_images_are_read_as_in_training(pair):
  gray = noise(1)[0, :, :, 0]
  ink = np.zeros((SIDE, SIDE, 4), np.uint8)
  ink[4:8, :, 3] = 255
  on_paper = np.full((SIDE, SIDE, 3), 255, np.uint8)
  on_paper[4:8] = 0
  given = [
    gray,
    Image.fromarray(gray),
    Image.fromarray(ink),
    Image.fromarray(ink[..., 3]).convert("1"),
  ]
  plain = [np.repeat(gray[..., None], 3, 2)] * 2 + [on_paper, 255 - on_paper]
  np.testing.assert_array_equal(pair.encode_sketches(given), pair.encode_sketches(plain))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_neither_batches_nor_neighbours_change_an_embedding(pair, batch_size):
  images = noise(7)
  found = pair.encode_photos(images, batch_size=batch_size)
  alone = np.concatenate([pair.encode_photos(images[i : i + 1]) for i in range(7)])
  np.testing.assert_allclose(found, alone, rtol=0, atol=1e-6)


def test_images_are_prepared_as_the_package_says():
  how = Preprocessing(SIDE, "trim", True, (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
  trimming = Model(make_package("pskd", how=how))
  drawing = np.full((50, 80, 3), 255, np.uint8)
  drawing[20:30, 60:70] = 0
  moved = np.roll(drawing, (-15, -40), (0, 1))
  found = trimming.encode_sketches([drawing, moved])
  np.testing.assert_array_equal(found[0], found[1])  # margins are cut
  plain = Model(make_package("pskd", how=PLAIN)).encode_sketches([drawing, moved])
  assert np.abs(plain[0] - plain[1]).max() > 1e-3


def test_a_long_list_shows_its_progress_and_a_short_one_does_not(pair, capfd):
  pair.encode_photos(noise(4), batch_size=4)
  assert capfd.readouterr().err == ""
  pair.encode_photos((image for image in noise(5)), batch_size=4)
  assert "encode photos: 100%" in capfd.readouterr().err


@pytest.mark.parametrize(
  ("images", "message"),
  [
    ([], "images is empty, expected at least one"),
    ("a.png", "images is one str, expected a list of images; put it in brackets"),
    (["no/a.png"], r"no/a.png: cannot be read \(No such file"),
    ([b"<html>"], "image 0: not a readable image"),
    ([noise(1)[0], 3], "image 1: a int, expected a path, a PIL image or a uint8 array"),
    ([noise(1)[0] / 255], r"image 0: an array float64\[16, 16, 3\], expected uint8"),
    ([np.zeros((4, 4, 4), np.uint8)], r"image 0: an array uint8\[4, 4, 4\], expected uint8"),
    ([np.zeros((0, 4, 3), np.uint8)], r"image 0: an array uint8\[0, 4, 3\], expected uint8"),
  ],
)
def test_what_is_no_image_is_named(pair, images, message):
  with pytest.raises(UserError, match=message) as raised:
    pair.encode_photos(images)
  assert "\n" not in str(raised.value)


def test_bytes_are_no_input_of_forward(pair):
  with pytest.raises(
    UserError, match=r"photo is uint8\[2, 16, 16, 3\], expected preprocessed floats"
  ):
    pair.forward(photo=noise(2))
  with pytest.raises(
    UserError, match=r"sketch is float32\[2, 8, 8, 3\], expected .*\[b, 16, 16, 3\]"
  ):
    pair.forward(sketch=np.zeros((2, 8, 8, 3), np.float32))
  with pytest.raises(UserError, match="given nothing, but this model takes photos and sketches"):
    pair.forward()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_package_read_and_written_is_the_same_bit_for_bit(folders, tmp_path, name):
  sbir.from_pretrained(folders[name]).save_pretrained(tmp_path / "again")
  names = sorted(path.name for path in folders[name].iterdir())
  assert names == ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
  assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
  for file in names:
    assert (tmp_path / "again" / file).read_bytes() == (folders[name] / file).read_bytes(), file


def test_weights_come_back_as_they_were(folders):
  package = make_package("pskd")
  jax.tree.map(
    np.testing.assert_array_equal, sbir.from_pretrained(folders["pskd"]).params, package.params
  )


def test_where_nothing_is_or_something_else_is_said(tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json").write_text("{}")
  with pytest.raises(UserError, match=r"nowhere is not a folder, expected a model package"):
    sbir.from_pretrained(tmp_path / "nowhere")
  with pytest.raises(
    UserError, match=r"run is no model package, it has no model.safetensors and no"
  ):
    sbir.from_pretrained(tmp_path / "run")
