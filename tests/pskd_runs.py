"""PSKD's mains on a handful of classes: the data, the settings, and the command lines."""

from tests.data_folders import write_manifest

CLASSES = ("ant", "bee", "cow", "doe", "eel", "fox")
UNSEEN = ("bee", "eel")
VALIDATION = ("ant", "fox")  # of the rest those whose SHA-256 is lowest
SEEN = ("cow", "doe")
TINY = {  # of the config sketchy_mini
  "model.size": "nano",
  "image_size": "16",
  "batch_size": "4",
  "skt_factor": "2",
  "accumulation": "2",
  "epochs": "6",
  "warmup_epochs": "2",
  "model.patch_size": "8",
  "model.hidden": "32",
  "model.bottleneck": "16",
  "data.num_threads": "1",
}
# Everything that a run could lose is in use: views are drawn anew, the best step is kept.
RESTART = {
  **TINY,
  "log_every": "1",
  "save_every": "2",
  "eval_every": "2",
  "keep": "1",
  "data.validation_classes": "2",
}


def make_classes(root, classes=CLASSES, *, photos=3, sketches=3, ending="png", unseen=UNSEEN):
  """Writes a manifest of noise, and beside it unseen.txt; returns the folder."""
  rows = [
    {"path": f"{modality}/{name}/{i}.{ending}", "modality": modality, "category": name}
    for name in classes
    for modality, num in (("photo", photos), ("sketch", sketches))
    for i in range(num)
  ]
  write_manifest(root, rows)
  (root / "unseen.txt").write_text("\n".join(unseen) + "\n")
  return root


def of_data(root):
  """Returns the settings that point a config at what `make_classes` wrote."""
  return {"data.dir": str(root), "data.split": str(root / "unseen.txt")}


def arguments(config, workdir, settings):
  """Returns the command line of a main; `config` is such as "teacher.py:sketchy_mini"."""
  flags = [f"--config.{key}={value}" for key, value in settings.items()]
  return ["--config", f"configs/pskd/{config}", "--workdir", str(workdir), *flags]
