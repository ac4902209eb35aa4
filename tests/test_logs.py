import json

import numpy as np
import pytest

from sbir.logs import MetricLog, parameter_table, read_metrics


def test_a_line_holds_the_step_then_the_loss_then_the_rest(tmp_path):
  with MetricLog(tmp_path, tensorboard=False) as log:
    log.write(2, {"accuracy": 0.5, "loss": 1.25, "count": 3})
  line = (tmp_path / "metrics.jsonl").read_text()
  assert line == '{"step": 2, "loss": 1.25, "accuracy": 0.5, "count": 3}\n'


def test_a_number_that_is_not_finite_is_null_so_the_file_stays_json(tmp_path):
  with MetricLog(tmp_path, tensorboard=False) as log:
    log.write(1, {"loss": float("nan"), "norm": np.float32(np.inf)})

  def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")

  row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
  assert row == {"step": 1, "loss": None, "norm": None}


def test_lines_are_there_before_the_log_is_closed(tmp_path):
  log = MetricLog(tmp_path, tensorboard=False)
  log.write(1, {"loss": 1.0})
  assert len(read_metrics(tmp_path)) == 1
  log.close()


def test_steps_about_to_be_done_again_are_dropped(tmp_path):
  rows = [{"step": step, "loss": 1.0} for step in (2, 4, 6)]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  with MetricLog(tmp_path, restored_step=4, tensorboard=False) as log:
    log.write(6, {"loss": 2.0})
  assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [(2, 1), (4, 1), (6, 2)]


def test_the_table_of_parameters_has_each_name_and_the_total():
  table = parameter_table({"head": {"kernel": np.ones((4, 3)), "bias": np.ones(3)}})
  assert "head/kernel" in table and "(4, 3)" in table
  assert "Total: 15" in table


@pytest.mark.slow
def test_tensorboard_gets_the_same_numbers(tmp_path):
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
  from tensorboard.util.tensor_util import make_ndarray

  with MetricLog(tmp_path) as log:
    log.write(3, {"loss": 0.5, "norm": float("nan")})
  events = EventAccumulator(str(tmp_path / "tensorboard"))
  events.Reload()
  assert events.Tags()["tensors"] == ["loss"]
  (event,) = events.Tensors("loss")
  assert (event.step, float(make_ndarray(event.tensor_proto))) == (3, 0.5)
