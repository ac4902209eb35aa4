"""What the papers and releases say about the data sets: facts to lay beside a folder."""

from typing import NamedTuple


class ClassCounts(NamedTuple):
  """Classes, photos and sketches of one side of a split; None where the source does not say."""

  classes: int | None
  photos: int | None
  sketches: int | None


class Counts(NamedTuple):
  """Photos and sketches of one split; None where the source does not say."""

  photos: int | None
  sketches: int | None


# data set -> where the numbers stand -> split ("all" for both together) -> counts
PUBLISHED: dict[str, dict[str, dict[str, Counts]]] = {
  "shoe_v2": {
    "online release": {"train": Counts(1800, 5982), "test": Counts(200, 666)},
    "printed in papers": {
      "train": Counts(None, 6051), "test": Counts(None, 679), "all": Counts(2000, 6730),
    },
  },
  "chair_v2": {
    "online release": {"train": Counts(300, 964), "test": Counts(100, 311)},
    "printed in papers": {
      "train": Counts(None, 951), "test": Counts(None, 324), "all": Counts(None, 1275),
    },
  },
  # Sangkloy et al., The Sketchy Database (SIGGRAPH 2016): 10 of 100 photos a class are for testing.
  "sketchy": {
    "paper": {
      "train": Counts(11250, None), "test": Counts(1250, None), "all": Counts(12500, 75471),
    },
  },
}  # fmt: skip

# The same for splits by class, under their names in `class_splits`. The outliers are counted.
PUBLISHED_BY_CLASS: dict[str, dict[str, dict[str, ClassCounts]]] = {
  "sketchy21": {
    "extended set": {
      "seen": ClassCounts(104, 62549, 62787), "unseen": ClassCounts(21, 10453, 12694),
      "all": ClassCounts(125, 73002, 75481),
    },
    # With the 12,500 base photos a second time, and without 50 sketches of each seen class.
    "SAKE's lists": {
      "seen": ClassCounts(104, 72949, 57587), "unseen": ClassCounts(21, 12553, 12694),
      "all": ClassCounts(125, 85502, 70281),
    },
  },
  "sketchy25": {
    "extended set": {
      "seen": ClassCounts(100, 58401, 60252), "unseen": ClassCounts(25, 14601, 15229),
      "all": ClassCounts(125, 73002, 75481),
    },
    "SAKE's lists": {
      "seen": ClassCounts(100, 68401, 55252), "unseen": ClassCounts(25, 17101, 15229),
      "all": ClassCounts(125, 85502, 70481),
    },
  },
  # The photos of all 250 classes are as the literature counts them, those of the unseen as listed.
  "tuberlin30": {
    "extended set": {
      "seen": ClassCounts(220, None, 17600), "unseen": ClassCounts(30, 27989, 2400),
      "all": ClassCounts(250, 204489, 20000),
    },
    # Without 10 sketches of each seen class.
    "SAKE's lists": {
      "seen": ClassCounts(220, None, 15400), "unseen": ClassCounts(30, 27989, 2400),
    },
  },
  "tuberlin30_pskd": {
    "extended set": {
      "seen": ClassCounts(220, None, 17600), "unseen": ClassCounts(30, None, 2400),
      "all": ClassCounts(250, 204489, 20000),
    },
  },
  "quickdraw30": {
    "ZSE's lists": {
      "seen": ClassCounts(80, None, None), "unseen": ClassCounts(30, 54151, 92291),
    },
  },
}  # fmt: skip

_SKETCHY = """
  airplane alarm_clock ant ape apple armor axe banana bat bear bee beetle bell bench bicycle
  blimp bread butterfly cabin camel candle cannon car_(sedan) castle cat chair chicken church
  couch cow crab crocodilian cup deer dog dolphin door duck elephant eyeglasses fan fish flower
  frog geyser giraffe guitar hamburger hammer harp hat hedgehog helicopter hermit_crab horse
  hot-air_balloon hotdog hourglass jack-o-lantern jellyfish kangaroo knife lion lizard lobster
  motorcycle mouse mushroom owl parrot pear penguin piano pickup_truck pig pineapple pistol
  pizza pretzel rabbit raccoon racket ray rhinoceros rifle rocket sailboat saw saxophone
  scissors scorpion sea_turtle seagull seal shark sheep shoe skyscraper snail snake songbird
  spider spoon squirrel starfish strawberry swan sword table tank teapot teddy_bear tiger tree
  trumpet turtle umbrella violin volcano wading_bird wheelchair windmill window wine_bottle
  zebra
"""

SKETCHY_CLASSES = tuple(_SKETCHY.split())

CLASSES: dict[str, tuple[str, ...]] = {"sketchy": SKETCHY_CLASSES}
