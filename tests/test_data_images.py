"""Whatever way a picture was saved, the same picture comes out; what is broken is named."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from sbir.data import images
from sbir.data.images import MAX_PIXELS, as_rgb, decode, is_image_name, resize
from sbir.types import UserError
from tests.fuzz_images import many_scans


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
  buffer = io.BytesIO()
  image.save(buffer, format=file_format, **options)
  return buffer.getvalue()


def noise(height: int = 12, width: int = 9, channels: tuple[int, ...] = (3,)) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (height, width, *channels), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
  return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width, height, depth, color, pixels: bytes = b"", extra: bytes = b"") -> bytes:
  """A PNG written by hand, for what Pillow cannot save: 16-bit colour, absurd sizes."""
  header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
  body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(pixels))
  return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def test_an_rgb_png_comes_out_as_it_went_in():
  pixels = noise()
  np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels))), pixels)


def test_gray_becomes_three_equal_channels():
  gray = noise(channels=())
  np.testing.assert_array_equal(decode(encoded(Image.fromarray(gray))), np.dstack([gray] * 3))


def test_16_bit_gray_is_scaled_not_clipped():
  gray = np.array([[0, 128, 255, 256, 32768, 65535]], np.uint16)
  np.testing.assert_array_equal(
    decode(encoded(Image.fromarray(gray)))[0, :, 0], [0, 0, 1, 1, 128, 255]
  )


def test_every_8_bit_value_survives_16_bits():
  gray = np.arange(256, dtype=np.uint16)[None] * 257
  np.testing.assert_array_equal(decode(encoded(Image.fromarray(gray)))[0, :, 1], np.arange(256))


def test_16_bit_pgm_and_tiff_are_scaled_too():
  gray = np.array([[0, 257 * 9, 65535]], np.uint16)
  pgm = b"P5\n3 1\n65535\n" + gray.astype(">u2").tobytes()
  for data in (pgm, encoded(Image.fromarray(gray), "TIFF")):
    np.testing.assert_array_equal(decode(data)[0, :, 2], [0, 9, 255])


def test_16_bit_colour_keeps_its_high_byte():
  pixels = b"\0" + np.array([0, 65535, 77 * 257, 30000, 0, 1], ">u2").tobytes()
  np.testing.assert_array_equal(
    decode(raw_png(2, 1, 16, 2, pixels))[0], [[0, 255, 77], [117, 0, 0]]
  )


def test_transparent_pixels_are_white_paper():
  rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], np.uint8)
  want = [[255, 255, 255], [10, 20, 30], [127, 127, 127]]
  np.testing.assert_array_equal(decode(encoded(Image.fromarray(rgba)))[0], want)


def test_gray_with_alpha_is_laid_on_white():
  gray_alpha = np.array([[[0, 0], [0, 255], [90, 255]]], np.uint8)
  data = encoded(Image.fromarray(gray_alpha))
  np.testing.assert_array_equal(decode(data)[0, :, 0], [255, 0, 90])


def test_palette_colours_are_looked_up():
  image = Image.new("P", (3, 1))
  image.putpalette([9, 8, 7, 200, 100, 50])
  image.putpixel((1, 0), 1)
  data = encoded(image)
  np.testing.assert_array_equal(decode(data)[0], [[9, 8, 7], [200, 100, 50], [9, 8, 7]])


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_a_transparent_palette_entry_is_white(transparency):
  image = Image.new("P", (2, 1))
  image.putpalette([9, 8, 7, 0, 0, 0])
  image.putpixel((1, 0), 1)
  data = encoded(image, transparency=transparency)
  np.testing.assert_array_equal(decode(data)[0], [[9, 8, 7], [255, 255, 255]])


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_gray_value_is_white(depth):
  gray = np.array([0, 7, 9], ">u2" if depth == 16 else np.uint8) * (257 if depth == 16 else 1)
  png_key = chunk(b"tRNS", struct.pack(">H", 7 * (257 if depth == 16 else 1)))
  pixels = b"\0" + gray.astype(">u2" if depth == 16 else np.uint8).tobytes()
  data = raw_png(3, 1, depth, 0, pixels, png_key)
  np.testing.assert_array_equal(decode(data)[0, :, 0], [0, 255, 9])


def test_cmyk_one_bit_and_other_formats_become_rgb():
  red = Image.new("RGB", (8, 8), (255, 0, 0))
  cmyk = decode(encoded(red.convert("CMYK"), "JPEG"))
  assert np.abs(cmyk.astype(int) - [255, 0, 0]).max() < 8
  assert decode(encoded(Image.new("1", (4, 5), 1))).tolist() == [[[255] * 3] * 4] * 5
  for file_format in ("BMP", "GIF", "TIFF"):
    np.testing.assert_array_equal(decode(encoded(red, file_format)), np.asarray(red))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_a_turned_photo_comes_out_upright(orientation, mode):
  upright = noise(channels=(3,) if mode == "RGB" else ())
  # What the camera stores so that the viewer's turn (EXIF 2.3, tag 0x0112) gives `upright` back.
  stored = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
  }[orientation](upright)
  if mode == "I;16":
    stored = stored.astype(np.uint16) * 257
  exif = Image.Exif()
  exif[0x0112] = orientation
  image = decode(encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif))
  np.testing.assert_array_equal(image[..., 0], upright if mode == "I;16" else upright[..., 0])


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_cut_file_is_refused_or_whole_wherever_it_is_cut(file_format):
  data = encoded(Image.fromarray(noise(40, 50)), file_format)
  whole = decode(data)
  refused = 0
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Pillow warns about half an EXIF block on its way to the error
    for cut in range(0, len(data), max(1, len(data) // 60)):
      try:
        np.testing.assert_array_equal(decode(data[:cut]), whole)
      except UserError:
        refused += 1
  assert refused > 50


def test_a_truncated_jpeg_is_named_with_the_reason_and_the_next_move(tmp_path):
  path = tmp_path / "shoe 7.jpg"
  path.write_bytes(encoded(Image.fromarray(noise(60, 60)), "JPEG")[:-400])
  with pytest.raises(
    UserError, match=r"shoe 7\.jpg: .*truncated.*copy it again or remove it"
  ) as got:
    decode(path)
  assert "\n" not in str(got.value)


def test_bytes_are_named_by_the_caller():
  with pytest.raises(UserError, match=r"^shard 3: .*no image format begins like this; 5 bytes"):
    decode(b"hello", "shard 3")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
  with pytest.raises(UserError, match="No such file"):
    decode(tmp_path / "none.png")
  with pytest.raises(UserError, match="cannot be read"):
    decode(tmp_path)


@pytest.mark.parametrize("side", [9_000, 100_000])
def test_a_small_file_that_claims_a_huge_picture_is_refused_undecoded(side):
  assert side * side > MAX_PIXELS
  with pytest.raises(UserError, match="scale it down"):
    decode(raw_png(side, side, 8, 2))


def test_a_picture_without_pixels_is_refused():
  with pytest.raises(UserError, match="0 x 3 pixels, expected at least one"):
    as_rgb(Image.new("RGB", (0, 3)))


def test_a_jpeg_of_very_many_scans_is_refused_undecoded():
  with pytest.raises(UserError, match=r"photo: 4\d\d scans, expected at most 100; save it again"):
    decode(many_scans(side=64, scans=400), "photo")


def test_what_comes_behind_a_jpeg_does_not_count_as_its_scans():
  photo = encoded(Image.fromarray(noise(40, 50)), "JPEG")
  np.testing.assert_array_equal(decode(photo + b"\xff\xda\0\2" * 1000), decode(photo))


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
  monkeypatch.setattr(images, "MAX_BYTES", 1000)
  (tmp_path / "a.png").write_bytes(bytes(1001))
  with pytest.raises(UserError, match=r"a\.png: 1001 bytes, expected at most 1000; scale it down"):
    decode(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 300 + ".png"])
def test_a_path_that_no_system_can_have_is_refused(name):
  with pytest.raises(UserError, match="cannot be read"):
    decode(name)


def test_floating_point_pixels_are_refused():
  with pytest.raises(UserError, match="8-bit PNG"):
    decode(encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


def test_postscript_is_not_run():
  with pytest.raises(UserError, match="no image format"):
    decode(encoded(Image.new("RGB", (4, 4)), "EPS"))


def test_resize_stretches_to_a_square_and_averages_what_it_shrinks():
  stripes = np.zeros((64, 32, 3), np.uint8)
  stripes[:, ::2] = 255
  small = resize(stripes, 8)
  assert small.shape == (8, 8, 3) and small.dtype == np.uint8
  assert np.abs(small.astype(int) - 127).max() < 40  # gray; picking pixels would give 0 or 255


def test_a_decoded_16_bit_image_can_be_resized():
  gray = np.full((6, 9), 257 * 80, np.uint16)
  np.testing.assert_array_equal(resize(decode(encoded(Image.fromarray(gray))), 4), 80)


def test_resize_to_its_own_size_changes_nothing():
  pixels = noise(16, 16)
  np.testing.assert_array_equal(resize(pixels, 16), pixels)


def test_hidden_and_foreign_files_are_no_images():
  assert is_image_name("a.PNG") and is_image_name("b_1.jpeg")
  assert not any(map(is_image_name, ("._a.png", ".png", "Thumbs.db", "a.txt", "png")))
