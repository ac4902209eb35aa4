"""What data.cache=disk keeps: read once for all, never half an image, never a stale one."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from sbir import run_folder
from sbir.data import kept_pixels
from sbir.data.records import Record
from sbir.data.resized import resized
from sbir.data.sources import open_source
from sbir.types import UserError
from tests.data_folders import make_qmul, save_image
from tests.paths import REPO

SIZE, NUM = 6, 5


class Counted:
  """Image i is noise of its own, a little larger than it is wanted; how often each was read."""

  name = "counted"

  def __init__(self, stamp="one", num=NUM):
    self.records = tuple(Record("photo", "", f"p{i}", f"p{i}.png") for i in range(num))
    self.reads, self._stamp = Counter(), stamp

  def image(self, index, at_least=0):
    self.reads[index] += 1
    return np.random.default_rng(index).integers(0, 256, (SIZE + 1, SIZE, 3), np.uint8)

  def stamp(self):
    return self._stamp


def kept(root, source=None, size=SIZE, **words):
  return resized(source or Counted(), size, cache="disk", cache_dir=root, **words)


def plain(source=None, size=SIZE, **words):
  return resized(source or Counted(), size, cache="none", **words)


def assert_same(images, others=None):
  others = others or plain()
  for i in range(len(images.records)):
    np.testing.assert_array_equal(images.image(i), others.image(i))


def the_folder(root):
  (folder,) = root.iterdir()
  return folder


def test_images_are_read_once_and_are_there_for_who_comes_later(tmp_path):
  first, second = Counted(), Counted()
  for _ in range(2):
    assert_same(kept(tmp_path, first))
  assert set(first.reads.values()) == {1}
  later = kept(tmp_path, second)
  assert_same(later)
  np.testing.assert_array_equal(later.images([3, 0]), plain().images([3, 0]))
  assert not second.reads


def test_two_that_are_open_at_once_share_what_either_reads(tmp_path):
  sources = Counted(), Counted()
  one, two = (kept(tmp_path, source) for source in sources)
  one.image(1), two.image(1), two.image(2), one.image(2)
  assert (sources[0].reads, sources[1].reads) == ({1: 1}, {2: 1})


@pytest.mark.parametrize(
  ("source", "words"),
  [(Counted("another"), {}), (None, {"size": SIZE - 1}), (None, {"fit": "trim"})],
  ids=["stamp", "size", "fit"],
)
def test_what_was_kept_of_other_images_is_not_used(tmp_path, source, words):
  assert_same(kept(tmp_path))
  source = source or Counted()
  assert_same(kept(tmp_path, source, **words), plain(**words))
  assert set(source.reads.values()) == {1} and len(list(tmp_path.iterdir())) == 2


def test_a_file_that_was_changed_is_read_anew(tmp_path):
  root = make_qmul(tmp_path / "shoes")
  opened = lambda: open_source("folder", "shoe_v2", root, "train")
  assert_same(kept(tmp_path / "kept", opened()), plain(opened()))
  save_image(root / "trainB/2.png", seed="other")
  assert_same(kept(tmp_path / "kept", opened()), plain(opened()))


def test_the_place_of_an_image_is_empty_until_it_is_read(tmp_path):
  kept(tmp_path).image(2)
  source = Counted()
  assert_same(kept(tmp_path, source))
  assert source.reads == {0: 1, 1: 1, 3: 1, 4: 1}


@pytest.mark.parametrize("file", ["pixels.u8", "checks.u64"])
def test_a_damaged_image_is_read_again_and_put_right(tmp_path, file):
  assert_same(kept(tmp_path))
  path = the_folder(tmp_path) / file
  data = bytearray(path.read_bytes())
  data[len(data) * 3 // 5 + 1] ^= 1  # of image 3
  path.write_bytes(data)
  source, later = Counted(), Counted()
  assert_same(kept(tmp_path, source))
  assert_same(kept(tmp_path, later))
  assert source.reads == {3: 1} and not later.reads


@pytest.mark.parametrize("file", ["pixels.u8", "checks.u64"])
def test_a_file_of_another_length_is_not_used(tmp_path, file):
  assert_same(kept(tmp_path))
  path = the_folder(tmp_path) / file
  path.write_bytes(path.read_bytes()[:-1])
  source = Counted()
  assert_same(kept(tmp_path, source))
  assert set(source.reads.values()) == {1}


def test_an_image_killed_half_way_is_not_there(tmp_path):
  code = f"""if True:
    import os, signal
    from sbir.data import kept_pixels
    from tests.test_kept_pixels import kept
    write = kept_pixels._write_at
    def half(descriptor, data, offset):
      write(descriptor, data[: len(data) // 2], offset)
      os.kill(os.getpid(), signal.SIGKILL)
    images = kept({str(tmp_path)!r})
    images.image(0)
    kept_pixels._write_at = half
    images.image(1)
  """
  done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True)
  assert done.returncode == -signal.SIGKILL, done.stderr
  source = Counted()
  assert_same(kept(tmp_path, source))
  assert source.reads == {i: 1 for i in range(1, NUM)}


def test_threads_and_processes_that_fill_it_together_see_whole_images(tmp_path):
  code = f"""if True:
    from tests.test_kept_pixels import Counted, kept, plain, assert_same
    for _ in range(3):
      assert_same(kept({str(tmp_path)!r}, Counted(num=60)), plain(Counted(num=60)))
  """
  others = [subprocess.Popen([sys.executable, "-c", code], cwd=REPO) for _ in range(2)]
  images, wanted, wrong = kept(tmp_path, Counted(num=60)), plain(Counted(num=60)), []

  def read_all():
    wrong.extend(i for i in range(60) if not np.array_equal(images.image(i), wanted.image(i)))

  threads = [threading.Thread(target=read_all) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong and [other.wait() for other in others] == [0, 0]


def test_who_uses_it_cannot_write_to_it(tmp_path):
  images = kept(tmp_path)
  images.image(0)
  with pytest.raises(ValueError, match="read-only"):
    images.image(0)[:] = 0


def test_people_are_told_what_is_in_the_folder(tmp_path, capsys):
  kept(tmp_path).image(2)
  kept(tmp_path)
  assert f"data.cache=disk: 1 of 5 images are in {the_folder(tmp_path)}" in capsys.readouterr().err
  about = json.loads((the_folder(tmp_path) / "about.json").read_text())
  assert about["name"] == "counted" and about["num_images"] == 5


def test_without_a_folder_it_is_the_users_cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  kept("").image(0)
  assert [p.name for p in (tmp_path / "sketch-retrieval/images").iterdir()]


def test_a_disk_without_room_is_refused_before_it_is_filled(tmp_path, monkeypatch):
  monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
  with pytest.raises(UserError, match=r"data\.cache=disk needs .* GiB.* set data\.cache=none"):
    kept(tmp_path)
  assert not list(the_folder(tmp_path).iterdir())


def test_a_disk_that_is_full_and_a_place_that_is_no_folder_are_named(tmp_path, monkeypatch):
  images = kept(tmp_path / "kept")
  full = OSError(28, "No space left on device")
  monkeypatch.setattr(kept_pixels.os, "pwrite", lambda *_: (_ for _ in ()).throw(full))
  with pytest.raises(UserError, match=r"cache_dir: .* cannot be written \(No space left.*DIR"):
    images.image(0)
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"file.* cannot be written \(Not a directory\)"):
    kept(tmp_path / "file")


def test_a_write_that_stops_short_is_gone_on_with(tmp_path, monkeypatch):
  pwrite = os.pwrite
  monkeypatch.setattr(
    kept_pixels.os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:5], offset)
  )
  assert_same(kept(tmp_path))
  source = Counted()
  assert_same(kept(tmp_path, source))
  assert not source.reads


@pytest.mark.parametrize("method", ["xmodal", "pskd"])
def test_the_config_of_either_method_says_where(method, tmp_path):
  module = importlib.import_module(f"configs.{method}.teacher")
  stages = importlib.import_module(f"{method}.stages")
  config = module.get_config("demo")
  config.image_size, config.data.cache, config.data.cache_dir = 16, "disk", str(tmp_path)
  if method == "xmodal":
    images = stages.open_split(config, "test")
  else:
    images, _ = stages.open_part(config, "test", config.image_size)
  images.image(0)
  about = json.loads((the_folder(tmp_path) / "about.json").read_text())
  assert about["num_images"] == len(images.records) and about["image_size"] == 16


def test_a_run_may_go_on_with_another_cache(tmp_path):
  config = {"seed": 0, "data": {"cache": "memory", "name": "shoes"}}
  (tmp_path / "config.json").write_text(json.dumps(config))  # of before there was a cache_dir
  changed = {"cache": "disk", "cache_dir": "somewhere", "name": "shoes"}
  run_folder.check(tmp_path, {"seed": 0, "data": changed})
  with pytest.raises(UserError, match="holds another run"):
    run_folder.check(tmp_path, {"seed": 0, "data": changed | {"name": "boots"}})
