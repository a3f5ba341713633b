"""Sweeps on a Ray cluster: the same table, whatever dies on the way.

The cluster has two nodes on the loopback interface, each of one core, and is started by the tests.
"""

import contextlib
import dataclasses
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from jaxnet import ConfigurationError, configure
from jaxnet.errors import RunFolderError, WorkerError
from jaxnet.sweeps import Ray, grid, job_from_dict
from jaxnet.sweeps.folder.checkpoint import PATTERN
from jaxnet.sweeps.folder.store import Store
from jaxnet.sweeps.run import ray_executor as on_ray, time_slice as slice_module
from jaxnet.sweeps.run.cluster import ray_from
from jaxnet.sweeps.run.time_slice import Terms, run_slice
from jaxnet.sweeps.stacks.prepared import gather, shapes_of
from jaxnet.sweeps.stacks.task import Task
from jaxnet.sweeps.stacks.timetable import Timetable
from jaxnet.training.layout import Layout
from jaxnet.training.program import Program
from jaxnet.verbs import run_job, sweep

# Before Ray is imported: addresses of this machine stay on the loopback interface, and nothing is
# reported.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

try:
    import ray
    from ray.cluster_utils import Cluster
except ImportError:
    ray = Cluster = None

pytestmark = [
    # Nodes are started by a process that uses JAX; what is forked does not.
    pytest.mark.filterwarnings("ignore:os.fork"),
    pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache"),
]
needs_ray = pytest.mark.skipif(ray is None, reason="Ray is not installed: pip install jaxnet[ray]")
loopback = {"node_ip_address": "127.0.0.1", "object_store_memory": 100 * 2**20}

# Two chunks, of two depths; six networks each, one of which diverges.
SPACE = {
    "grid": {
        "learning_rate": [3e-1, 1e-1, 1e9, 3e-2, 1e-2, 1e-3],
        "hidden": [[6], [5, 4]],
    },
    "data": "arrays",
    "steps": 16,
    "settings": {"batch_size": 10, "optimizer": "momentum"},
    "evaluations": 4,
}


@pytest.fixture(scope="module")
def cluster():
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **loopback}
    )
    made.add_node(num_cpus=1, **loopback)
    ray.init(made.address, logging_level="ERROR", log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def short_slices(monkeypatch):
    """One call of a program a slice: every chunk goes home and out again many times."""
    monkeypatch.setattr(on_ray, "SLICE_SECONDS", 0.0)


def run(data, out=None, on="ray", **more):
    return run_job(job_from_dict({**SPACE, **more}), data, out=out, on=on, memory=1e9)


@pytest.fixture(scope="module")
def expected(cluster, data):
    """What the cluster finds when nothing happens, each chunk in one slice."""
    return run(data)


def log_of(folder):
    return (folder / "log.txt").read_text()


def workers(node):
    """Return the worker processes of a node."""
    (raylet,) = node.all_processes["raylet"]
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            title = (status.parent / "cmdline").read_text()
            if parent == raylet.process.pid and title.startswith(("ray::run_slice", "ray::IDLE")):
                found.append(int(status.parent.name))
    return found


def freeze_then(pids, end):
    """Stop processes, and end them when they surely have a slice that will never come home."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    def kill():
        end()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    threading.Timer(1.5, kill).start()


@pytest.fixture
def at_landing(monkeypatch, short_slices):
    """Do something once, when so many slices have come home."""

    def set_fault(count, fault):
        real, seen = on_ray.OnRay._land, []

        def land(self, *arguments):
            seen.append(1)
            finished = real(self, *arguments)
            if len(seen) == count:
                fault()
            return finished

        monkeypatch.setattr(on_ray.OnRay, "_land", land)
        return seen

    return set_fault


# The same table


@needs_ray
def test_the_table_of_a_cluster_is_that_of_this_process(
    expected, data, trained, assert_same_runs, cluster
):
    here = run(data, on=None)
    assert len(trained) == 2  # chunks here; the cluster has two workers, and so two as well
    assert [row.outcome.kind for row in here.rows].count("diverged") == 2
    for one, other in zip(here.rows, expected.rows, strict=True):
        assert one.settings == other.settings
        assert_same_runs(one, other)
    assert [row.id for row in here.ranked] == [row.id for row in expected.ranked]
    assert here.network.settings == expected.network.settings


@needs_ray
def test_nothing_is_trained_in_the_driver(cluster, data, trained, tmp_path):
    result = run(data, tmp_path / "run", steps=8)
    assert trained == []
    assert len(result.rows) == 12
    assert "2 nodes, 2 tasks at once" in log_of(tmp_path / "run")
    assert list((tmp_path / "run").glob(PATTERN)) == []


@needs_ray
def test_halving_goes_by_way_of_the_driver(cluster, data, outcomes):
    space, options = (
        grid(learning_rate=[1e-1, 1e-2, 1e-3, 1e-4], hidden=[[5]]),
        {
            "steps": 8,
            "batch_size": 10,
            "halving": 2,
        },
    )
    here, there = (sweep(space, data, on=on, **options) for on in (None, "ray"))
    statuses = [row.outcome.status for row in here.rows]
    assert len(set(statuses)) > 2
    assert [row.outcome.status for row in there.rows] == statuses


# Faults


@needs_ray
def test_a_killed_worker(cluster, data, expected, outcomes, at_landing, tmp_path):
    def kill():
        freeze_then([pid for node in cluster.list_all_nodes() for pid in workers(node)], list)

    slices = at_landing(8, kill)
    result = run(data, tmp_path / "run")
    assert len(slices) > 20
    assert "(WorkerCrashedError: " in log_of(tmp_path / "run")
    assert outcomes(result) == outcomes(expected)
    assert_once(tmp_path / "run", result)


@needs_ray
def test_a_node_that_dies_with_its_chunk(cluster, data, expected, outcomes, at_landing, tmp_path):
    (node,) = [node for node in cluster.list_all_nodes() if not node.head]

    def remove():
        """All of it at once, as when the power fails."""
        freeze_then(workers(node), lambda: cluster.remove_node(node, allow_graceful=False))

    at_landing(8, remove)
    result = run(data, tmp_path / "run")
    cluster.add_node(num_cpus=1, **loopback)
    cluster.wait_for_nodes()
    assert "(NodeDiedError: " in log_of(tmp_path / "run")
    assert outcomes(result) == outcomes(expected)
    assert_once(tmp_path / "run", result)


DRIVER = """
import sys
import jax
jax.config.update("jax_numpy_rank_promotion", "raise")
from jaxnet.sweeps import read_job
from jaxnet.sweeps.run import ray_executor as on_ray
from jaxnet.verbs import run_job
from jaxnet.data import DataSet
import numpy as np
on_ray.SLICE_SECONDS = 0.0
arrays = np.load(sys.argv[1])
data = DataSet.from_arrays(*(arrays[f"arr_{i}"] for i in range(4)), class_names=["a", "b", "c"])
run_job(read_job(sys.argv[2]), data, out=sys.argv[3], on="ray", memory=1e9)
"""


@needs_ray
def test_a_killed_driver(cluster, data, expected, outcomes, tmp_path):
    arrays, job, out = tmp_path / "data.npz", tmp_path / "job.json", tmp_path / "run"
    np.savez(arrays, data.train_images, data.train_labels, data.test_images, data.test_labels)
    job.write_text(json.dumps(SPACE))
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, arrays, job, out],
        env={**os.environ, "RAY_ADDRESS": cluster.address},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(out.glob(PATTERN)) and time.monotonic() < deadline and driver.poll() is None:
        time.sleep(0.005)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL, driver.stderr.read()
    driver.stderr.close()
    result = run(data, out)
    assert outcomes(result) == outcomes(expected)
    assert_once(out, result)


@needs_ray
def test_a_full_disk(cluster, data, expected, outcomes, at_landing, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_landing(8, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1])))
    try:
        with pytest.raises(RunFolderError, match="cannot write"):
            run(data, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    result = run(data, tmp_path / "run")
    assert outcomes(result) == outcomes(expected)
    assert_once(tmp_path / "run", result)


def assert_once(folder, result):
    """Every configuration has one committed result, and nothing half done is left."""
    with Store(folder / "sweep.db") as store:
        keys = [found.key for found in store.results()]
    assert len(keys) == len(set(keys)) == len(result.rows) == 12
    assert list(folder.glob(PATTERN)) == []


def greedy(folder, driver, rate, numbers):
    """An update rule that takes 4 GB the first time a worker asks for it."""
    import optax

    mark = Path(folder) / "taken"
    if os.getpid() != driver and not mark.exists():
        mark.touch()
        np.ones(2**29)
    return optax.sgd(rate)


@needs_ray
def test_a_task_that_takes_more_than_its_memory_is_halved(
    cluster, data, tmp_path, assert_same_runs
):
    rule = functools.partial(greedy, str(tmp_path), os.getpid())
    space = [{"learning_rate": rate, "hidden": [5]} for rate in (0.1, 0.03, 0.01, 0.003)]
    options = {"steps": 10, "batch_size": 10, "optimizer": rule, "memory": 1e8}
    out = tmp_path / "run"
    there = sweep(space, data, on="ray", out=out, **options)
    assert (tmp_path / "taken").exists()
    assert "out of memory with 2 networks at once: now 1" in log_of(out)
    for one, other in zip(sweep(space, data, **options).rows, there.rows, strict=True):
        assert_same_runs(one, other)


def deadly(driver, rate, numbers):
    import optax

    if os.getpid() != driver:
        os._exit(1)
    return optax.sgd(rate)


@needs_ray
def test_what_kills_every_worker_ends_the_sweep_with_a_reason(cluster, data, monkeypatch):
    monkeypatch.setattr(on_ray, "MOST_LOSSES", 1)
    rule = functools.partial(deadly, os.getpid())
    with pytest.raises(WorkerError, match=r"1 networks could not be trained: lost 1 times"):
        sweep([{}], data, steps=4, batch_size=10, hidden=[5], optimizer=rule, on="ray", memory=1e8)


# Data


@needs_ray
def test_images_are_put_once_for_all_tasks(cluster, data, monkeypatch):
    """Two elementwise preprocessings share the pixels; PCA has images of its own."""
    put, real = [], ray.put

    def note(value, **more):
        if isinstance(value, dict) and "images" in value:
            put.append(value["images"].shape)
        return real(value, **more)

    monkeypatch.setattr(ray, "put", note)
    ways = [{"preprocessing": way} for way in ("standardize", "mean_image")]
    ways += [{"preprocessing": "pca", "components": 3}]
    sweep(ways, data, steps=10, batch_size=10, hidden=[5], on="ray", memory=1e8)
    assert put == [(150, 12), (150, 3)]


# Errors, before anything is trained


@pytest.mark.parametrize("on", ["spark", "ray://", "ray:10001", ""])
def test_a_cluster_that_is_none_is_refused(data, on, as_a_user):
    with pytest.raises(ConfigurationError, match=r'on: expected "ray"'):
        sweep([{}], data, steps=4, on=on)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus": 0}, "cpus of a task: expected a whole number from 1 up, got 0"),
        ({"gpus": -1}, "gpus of a task: expected a whole number from 0 up, got -1"),
        ({"cpus": True}, "cpus of a task"),
    ],
)
def test_resources_that_cannot_be_are_refused(options, message, as_a_user):
    with pytest.raises(ConfigurationError, match=message):
        Ray(**options)


@pytest.mark.parametrize("option", [{"callback": print}, {"devices": 2}])
def test_what_needs_this_process_is_refused(data, option):
    (name,) = option
    with pytest.raises(ConfigurationError, match=f"{name} is of sweeps in this process"):
        sweep([{}], data, steps=4, on="ray", **option)


def test_an_address_is_passed_on():
    assert ray_from("ray://head:10001").address == "ray://head:10001"
    assert ray_from("ray") == Ray()
    assert ray_from(None) is None


def test_without_ray_it_is_said_how_to_have_it(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'jaxnet\[ray\]'"):
        sweep([{}], data, steps=4, on="ray")


@needs_ray
def test_a_node_of_other_versions_is_refused(cluster, data, monkeypatch):
    monkeypatch.setattr(on_ray, "versions", lambda: {**slice_module.versions(), "jax": "0.0.1"})
    with pytest.raises(ConfigurationError, match=r"a node of the cluster has jax .*jax 0\.0\.1"):
        sweep([{}], data, steps=4, batch_size=10, hidden=[5], on="ray", memory=1e8)


# A slice, without Ray


def task_of(data, members, timetable):
    program = Program(members[0].structure, shapes_of(data), Layout(size=len(members)))
    return Task(
        program=program, configurations=tuple(members), timetable=timetable, until=timetable.steps
    )


def terms_of(seconds):
    return Terms(
        seconds=seconds, cpus=1, gpus=0, versions={}, memory=None, program="program", data="data"
    )


def test_slices_of_one_call_make_the_run_of_one_slice(data, outcomes, short_calls, monkeypatch):
    """Cut after every call and put together again, networks are the same to the bit."""
    monkeypatch.setattr(slice_module, "_set_up", lambda terms: None)
    monkeypatch.setattr(slice_module, "_data", {})
    members = [configure(hidden=[5], batch_size=10, learning_rate=r) for r in (0.1, 1e9, 0.01)]
    task = task_of(data, members, Timetable(40, (13, 40), 1))
    whole = gather(data.split(40), members[0].structure, shapes_of(data))
    pixels = {"images": whole.images, "labels": whole.labels}

    result, once = run_slice(task, whole, pixels, terms_of(1e9), None)
    assert (result.state, result.step) == ("done", 40)
    slices, tensors = 0, None
    while not slices or result.state == "going":
        result, tensors = run_slice(task, whole, pixels, terms_of(0.0), tensors)
        slices += 1
    assert slices > 5
    assert once.keys() == tensors.keys()
    for name in once:
        np.testing.assert_array_equal(once[name], tensors[name], err_msg=name)


def test_tensors_of_another_task_are_unusable(data, monkeypatch):
    monkeypatch.setattr(slice_module, "_set_up", lambda terms: None)
    member = configure(hidden=[5], batch_size=10)
    task = task_of(data, [member], Timetable(4, (4,), 1))
    whole = gather(data.split(40), member.structure, shapes_of(data))
    pixels = {"images": whole.images, "labels": whole.labels}
    result, _ = run_slice(task, whole, pixels, terms_of(1.0), {"span": np.asarray([0, 4])})
    assert result.state == "unusable"


def test_workers_of_a_node_share_its_images(data):
    """What lies in shared memory, aligned as Ray has it, is on the CPU device without a copy."""
    whole = gather(data.split(40), configure().structure, shapes_of(data))
    shared = np.zeros(whole.images.nbytes + 64, np.uint8)
    shared = shared[-shared.ctypes.data % 64 :][: whole.images.nbytes]
    images = shared.reshape(whole.images.shape)
    images[:] = whole.images
    images.flags.writeable = False
    device = dataclasses.replace(whole, images=images).to_device().device
    assert device.images.unsafe_buffer_pointer() == images.ctypes.data
    np.testing.assert_array_equal(device.images, whole.images)
