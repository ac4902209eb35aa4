"""What the papers and releases say about the data sets: facts to lay beside a folder."""

from typing import NamedTuple


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
