"""Strategies of images: every format that is read, damaged; and bombs."""

import io
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz_inputs import damaged, numbers

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 4), dtype=np.uint8)
MODES = {
  "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
  "JPEG": ("RGB", "L", "CMYK"),
  "WEBP": ("RGB", "RGBA"),
  "BMP": ("RGB", "L", "P", "1"),
  "GIF": ("P", "L"),
  "TIFF": ("RGB", "L", "CMYK", "F", "I;16", "1"),
  "PPM": ("RGB", "L", "1", "I;16"),
}
OPTIONS = {
  "JPEG": ({}, {"progressive": True}, {"quality": 5, "subsampling": 2}),
  "WEBP": ({}, {"lossless": True}),
  "TIFF": ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}),
}
TIFF_JPEG = {"compression": "jpeg"}


def image(mode, size=None):
  """Returns noise of a mode; `size` (width, height), if not 9 x 12."""
  picture = Image.fromarray(PIXELS[..., :3])
  if mode == "I;16":
    return Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
  picture = Image.fromarray(PIXELS) if mode in ("RGBA", "LA") else picture
  picture = picture.convert(mode)
  return picture.resize(size) if size else picture


def saved(picture, file_format, **options):
  """Returns the bytes of a picture in a format."""
  buffer = io.BytesIO()
  picture.save(buffer, format=file_format, **options)
  return buffer.getvalue()


def wholes():
  """Returns whole files: every format in every mode, turned, animated, with a colour profile."""
  found = [
    saved(image(mode), kind, **options)
    for kind, modes in MODES.items()
    for mode in modes
    for options in OPTIONS.get(kind, ({},))
    if (kind, mode) != ("WEBP", "LA")
  ]
  exif = Image.Exif()
  exif[0x0112] = 6
  frames = {"save_all": True, "append_images": [image("L"), image("P")]}
  turned = [saved(image("RGB"), kind, exif=exif) for kind in ("PNG", "JPEG", "WEBP", "TIFF")]
  animated = [saved(image("RGB"), kind, **frames) for kind in ("GIF", "WEBP", "TIFF", "PNG")]
  odd = [
    saved(image("RGB"), "TIFF", **TIFF_JPEG),
    saved(image("RGB"), "JPEG", icc_profile=b"x" * 99),
  ]
  plain = [
    b"P3\n2 1\n255\n1 2 3 4 5 6\n",
    b"P2\n2 1\n65535\n1 2\n",
    b"P1\n2 1\n1 0\n",
    b"Pf 1 1 -1 ",
  ]
  return (*found, *turned, *animated, *odd, *plain)


def chunk(kind, data):
  """Returns a chunk of a PNG."""
  return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks, depth=8, color=0, interlace=0):
  """Returns a PNG of these chunks; its header need not fit them."""
  words = (width % 2**32, height % 2**32, depth % 256, color % 256, 0, 0, interlace % 256)
  header = chunk(b"IHDR", struct.pack(">2I5B", *words))
  return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


KINDS = (b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"eXIf", b"gAMA", b"acTL")
chunks = st.builds(
  chunk,
  st.sampled_from(KINDS),
  st.one_of(st.binary(max_size=40), st.just(zlib.compress(bytes(4000))), st.just(b"a\0\0" * 5)),
)
PNGS = st.builds(
  lambda width, height, chunks, depth, color, interlace: png(
    width, height, *chunks, depth=depth, color=color, interlace=interlace
  ),
  numbers,
  numbers,
  st.lists(chunks, max_size=4),
  st.sampled_from((8, 8, 16, 1, 2, 4, 0, 255)),
  st.sampled_from((0, 2, 3, 4, 6, 1, 255)),
  st.sampled_from((0, 0, 1, 2)),
)
ROWS = b"".join(b"\0" + row.tobytes() for row in PIXELS[..., 0])  # each with its filter before it
PNG_ROWS = (ROWS, b"\4".join((ROWS[:10], ROWS[11:])), bytes(200))
STREAMS = st.one_of(
  damaged(tuple(map(zlib.compress, PNG_ROWS))), damaged(PNG_ROWS).map(zlib.compress)
)
WHOLE_PNGS = st.builds(  # with the checksums of what is damaged in them
  lambda stream, palette, color: png(
    9, 12, chunk(b"PLTE", palette), chunk(b"tRNS", palette[:4]), chunk(b"IDAT", stream), color=color
  ),
  STREAMS,
  st.binary(max_size=768),
  st.sampled_from((0, 3, 3)),
)
PPMS = st.builds(
  lambda kind, numbers, data: b"P%d " % kind + b" ".join(b"%d" % n for n in numbers) + b"\n" + data,
  st.integers(1, 7),
  st.lists(numbers, min_size=2, max_size=4),
  st.binary(max_size=40),
)
IMAGES = st.one_of(damaged(wholes()), PNGS, WHOLE_PNGS, PPMS)


def image_bombs():
  """Returns small files that claim to be, or are, large; and a JPEG of very many scans."""
  side, limit = 8000, 64_000_000
  rows = zlib.compressobj()
  white = b"".join(rows.compress(bytes(side + 1)) for _ in range(side)) + rows.flush()
  text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))
  profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8)))
  return (
    png(side, side, chunk(b"IDAT", white)),  # as large as is allowed
    png(side + 1, side, chunk(b"IDAT", white)),
    png(2**31 - 1, 2**31 - 1),
    png(1, limit, chunk(b"IDAT", zlib.compress(bytes(9)))),
    png(9, 9, text, profile),
    *(b"P%d %d %d 255\n" % (kind, side, side) for kind in (1, 2, 3, 4, 5, 6)),
    b"P3 1 1 255\n" + b"9" * 10**6,
    many_scans(),
  )


def many_scans(side=4000, scans=4000):
  """Returns a progressive JPEG whose second scan comes again and again, each over all pixels."""
  data = saved(Image.new("L", (side, side), 200), "JPEG", progressive=True)
  starts = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xda"]
  first, second = starts[1], starts[2]
  tables = data.rfind(b"\xff\xc4", 0, first)  # of the scan
  again = data[min(tables, first) if tables > starts[0] else first : second]
  return data[:second] + again * scans + data[second:]
