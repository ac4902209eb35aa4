"""The manifest of a Kubernetes job."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbir import kubernetes_job

PROGRAM = ["xmodal.train_teacher", "--workdir", "runs/my shoes"]


def manifest(program, **given):
  usual = dict(image="me/sketches:1", name="shoes", num_processes=4)
  return kubernetes_job.manifest(program, **{**usual, **given})


def pod(program, **given):
  _, job = manifest(program, **given)["items"]
  return job["spec"]["template"]["spec"]


def filled_in(text, values):
  """Returns a word of a container's command as Kubernetes passes it on."""
  value = lambda found: "$" if found[0] == "$$" else values.get(found[1], found[0])
  return re.sub(r"\$\$|\$\(([^)]*)\)", value, text)


@given(st.lists(st.text(st.sampled_from("$()ab "))))
def test_any_arguments_survive_kubernetes(words):
  command = pod(["some.main", *words])["containers"][0]["command"]
  values = {"JOB_COMPLETION_INDEX": "3", "a": "filled in"}
  assert [filled_in(word, values) for word in command] == [
    *["python", "-m", "some.main", *words, "--coordinator", "shoes-0.shoes:8476"],
    *["--num-processes", "4", "--process-id", "3"],
  ]


def test_a_kubernetes_job_has_a_pod_for_each_process_and_names_for_them():
  service, job = manifest(PROGRAM)["items"]
  assert service == {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "shoes"},
    "spec": {
      "clusterIP": "None",
      "selector": {"job-name": "shoes"},
      "publishNotReadyAddresses": True,
    },
  }
  assert (job["kind"], job["metadata"]) == ("Job", {"name": "shoes"})
  spec = job["spec"]
  assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
  assert spec["template"]["spec"]["subdomain"] == "shoes"


def test_a_pod_that_saved_or_was_preempted_is_no_failure_and_a_mistake_ends_the_job():
  _, job = manifest(PROGRAM)["items"]
  exited = lambda status: {"containerName": "main", "operator": "In", "values": [status]}
  assert job["spec"]["podFailurePolicy"]["rules"] == [
    {"action": "Ignore", "onExitCodes": exited(75)},
    {"action": "FailJob", "onExitCodes": exited(2)},
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
  ]
  assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # as the policy demands
  assert job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 600


def test_a_pod_without_gpus_and_claim_asks_for_neither():
  spec = pod(PROGRAM)
  assert "volumes" not in spec
  assert set(spec["containers"][0]) == {"name", "image", "command", "env"}


def test_a_pod_gets_its_gpus_memory_for_them_to_talk_and_the_claim():
  spec = pod(PROGRAM, gpus=8, claim="shoes-disk", mount="/mnt/shoes")
  (container,) = spec["containers"]
  assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
  assert container["volumeMounts"] == [
    {"name": "shm", "mountPath": "/dev/shm"},
    {"name": "data", "mountPath": "/mnt/shoes"},
  ]
  assert spec["volumes"] == [
    {"name": "shm", "emptyDir": {"medium": "Memory"}},
    {"name": "data", "persistentVolumeClaim": {"claimName": "shoes-disk"}},
  ]


@pytest.mark.parametrize("main", ["xmodal.train_teacher", "pskd.train_student", "_my.Main_"])
def test_the_name_made_of_a_main_is_one_that_kubernetes_takes(main):
  assert kubernetes_job.name_mistake(kubernetes_job.job_name(main), 100) is None
