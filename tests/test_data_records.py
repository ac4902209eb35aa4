"""The order of records, who belongs to whom, and the checks that training calls."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbir.data.records import (
  Record,
  check,
  ordered,
  photo_indices,
  photo_of,
  photos_without_sketch,
  repeated_photo_ids,
  sketch_indices,
  sketches_of,
  sketches_without_photo,
)
from sbir.types import UserError


@dataclass
class Listed:
  """A source of which only the records matter."""

  records: tuple[Record, ...]
  name: str = "toy"


def record(modality: str, instance: str, k: int = 0) -> Record:
  return Record(modality, "", instance, f"{modality}/{instance}_{k}.png")


def source(photos: str, sketches: str) -> Listed:
  """One letter an instance; the same letter again is another image of it."""
  photo = [record("photo", x, k) for k, x in enumerate(photos)]
  return Listed(ordered(photo + [record("sketch", x, k) for k, x in enumerate(sketches)]))


records = st.builds(
  Record,
  st.sampled_from(["photo", "sketch"]),
  st.sampled_from(["", "cat", "dog"]),
  st.sampled_from("abcd"),
  st.text("xyz", min_size=1, max_size=6),
)


@given(st.lists(records), st.randoms())
def test_the_order_does_not_depend_on_how_records_were_found(found, random):
  shuffled = list(found)
  random.shuffle(shuffled)
  assert ordered(shuffled) == ordered(found)


@given(st.lists(records))
def test_photos_come_first_and_every_record_has_one_index(found):
  listed = Listed(ordered(found))
  assert photo_indices(listed) + sketch_indices(listed) == list(range(len(found)))


@given(st.lists(records))
def test_every_sketch_is_listed_once_under_its_own_instance(found):
  listed = Listed(ordered(found))
  grouped = sketches_of(listed)
  assert sorted(i for group in grouped.values() for i in group) == sketch_indices(listed)
  for instance, group in grouped.items():
    assert {listed.records[i].instance for i in group} == {instance}


def test_photos_and_sketches_are_found_by_instance():
  listed = source("bca", "aabb")
  assert photo_of(listed) == {"a": 0, "b": 1, "c": 2}
  assert sketches_of(listed) == {"a": [3, 4], "b": [5, 6]}


def test_what_lacks_its_other_half_is_found():
  listed = source("abb", "acc")
  assert [r.instance for r in sketches_without_photo(listed.records)] == ["c", "c"]
  assert [r.instance for r in photos_without_sketch(listed.records)] == ["b", "b"]
  assert repeated_photo_ids(listed.records) == ["b"]


def test_a_photo_without_sketch_passes():
  check(source("abc", "ab"))


@pytest.mark.parametrize(
  "photos, sketches, message",
  [
    ("", "ab", "toy: 0 photos found, expected at least 1"),
    ("ab", "", "toy: 0 sketches found, expected at least 1"),
    ("", "", "toy: 0 photos found"),
    ("ab", "abc", "1 of 3 sketches have no photo .*sketch/c_2.png, photo id 'c'.* remove"),
    ("ab", "cd", "2 of 2 sketches have no photo"),
    ("abb", "ab", "1 photo ids are used by several photos .*'b'"),
  ],
)
def test_a_set_that_cannot_be_trained_on_is_refused_in_one_line(photos, sketches, message):
  with pytest.raises(UserError, match=message) as got:
    check(source(photos, sketches))
  assert "\n" not in str(got.value)


def test_the_message_names_the_folder_where_it_is_given():
  with pytest.raises(UserError, match=r"^train split of /d: 0 photos"):
    check(source("", "a"), "train split of /d")
