"""Large JPEGs are decoded at a fraction of their size; the squares made of them hardly change."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sbir.data.fit import fit_square, least_side
from sbir.data.images import as_rgb, decode
from sbir.data.resized import resized
from sbir.data.sources import open_source
from sbir.data.zero_shot import open_zero_shot
from sbir.export_images import PhotosBelow
from sbir.types import UserError
from tests.data_folders import make_classes, make_qmul

WIDTH, HEIGHT = 501, 399


def smooth(width=WIDTH, height=HEIGHT) -> Image.Image:
  """A picture without sharp edges, different everywhere."""
  y, x = np.mgrid[:height, :width] / 40
  channels = [np.sin(x + k) * np.cos(y * (k + 1) / 2) for k in range(3)]
  return Image.fromarray((127 + 120 * np.stack(channels, 2)).astype(np.uint8))


def drawing() -> Image.Image:
  image = Image.new("RGB", (WIDTH, HEIGHT), "white")
  corners = np.random.default_rng(0).integers(0, 399, (30, 3, 2))
  for k, corner in enumerate(corners):
    ImageDraw.Draw(image).line([tuple(map(int, p)) for p in corner], "black", 1 + k % 4)
  return image


def noise() -> Image.Image:
  return Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def saved(image: Image.Image, file_format: str = "JPEG", **options) -> bytes:
  buffer = io.BytesIO()
  image.save(buffer, file_format, **options)
  return buffer.getvalue()


@pytest.mark.parametrize(
  ("at_least", "shape"),
  [
    (0, (399, 501)),
    (200, (399, 501)),
    (199, (200, 251)),
    (99, (100, 126)),
    (49, (50, 63)),
    (1, (50, 63)),
  ],
)
def test_a_jpeg_comes_at_the_smallest_eighths_that_are_large_enough(at_least, shape):
  assert decode(saved(smooth()), at_least=at_least).shape == (*shape, 3)
  assert as_rgb(saved(smooth()), at_least=at_least).shape == (*shape, 3)


def test_gray_cmyk_and_turned_jpegs_are_scaled_too():
  turned = Image.Exif()
  turned[0x0112] = 6
  for data in (
    saved(smooth().convert("L")),
    saved(smooth().convert("CMYK")),
    saved(smooth().rotate(90, expand=True), exif=turned),
  ):
    whole, scaled = decode(data), decode(data, at_least=90)
    assert whole.shape[:2] == (399, 501) and scaled.shape[:2] == (100, 126)
    difference = fit_square(whole, 24, "stretch").astype(int) - fit_square(scaled, 24, "stretch")
    assert np.abs(difference).max() <= 4


def test_other_formats_are_decoded_as_they_are():
  np.testing.assert_array_equal(decode(saved(noise(), "PNG"), at_least=8), np.asarray(noise()))


@pytest.mark.parametrize("picture", [smooth, drawing, noise])
@pytest.mark.parametrize("size", [66, 33, 16])  # decoded at a half, a quarter, an eighth
@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 75, "subsampling": 0}])
def test_the_square_differs_from_that_of_a_full_decode_by_less_than_is_said(picture, size, options):
  data = saved(picture(), **options)
  small = decode(data, at_least=least_side(size, "stretch"))
  assert small.shape[0] <= 200
  full = fit_square(decode(data), size, "stretch").astype(int)
  difference = np.abs(full - fit_square(small, size, "stretch"))
  assert difference.mean() < 1.6 and difference.max() <= 15


def test_what_is_to_be_trimmed_is_decoded_whole():
  assert least_side(64, "trim") == 0


def test_a_cut_jpeg_is_refused_at_any_scale():
  data = saved(noise())
  for cut in (len(data) - 500, len(data) // 2, 700):
    with pytest.raises(UserError, match="truncated"):
      decode(data[:cut], at_least=40)


def test_every_reader_of_files_decodes_at_the_scale_of_the_square(tmp_path):
  shoes, animals = make_qmul(tmp_path / "shoes"), make_classes(tmp_path / "animals")
  large = saved(smooth())
  (shoes / "trainB/2.png").unlink()
  (shoes / "trainB/2.jpg").write_bytes(large)
  (animals / "photo/ant/n0.jpg").write_bytes(large)
  (tmp_path / "unseen.txt").write_text("cat\n")
  sources = {
    "trainB/2.jpg": open_source("folder", "shoe_v2", shoes, "train"),
    "photo/ant/n0.jpg": open_zero_shot(
      "folder", "animals", animals, "train", split=str(tmp_path / "unseen.txt")
    )[0],
  }
  expected = fit_square(decode(large, at_least=48), 16, "stretch")
  assert not np.array_equal(expected, fit_square(decode(large), 16, "stretch"))
  for key, source in sources.items():
    (index,) = (i for i, record in enumerate(source.records) if record.key == key)
    np.testing.assert_array_equal(resized(source, 16).image(index), expected)
    assert resized(source, 16, fit="trim").image(index).shape == (16, 16, 3)
  photos = PhotosBelow(shoes / "trainB", 16, "stretch")
  np.testing.assert_array_equal(photos[1], expected)
