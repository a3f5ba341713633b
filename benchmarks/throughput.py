"""How a sweep grows with its nodes: parts measured here, the whole on paper and simulated.

`check` rows hold the model against measured points of this machine: a sweep in chunks, and a driver
whose nodes sleep in place of training (threads; one is lost now and then) while it unpacks and
commits real results. `forecast` rows put the driver measured here before GPUs that are not here:
what is assumed of them stands in ASSUMED, and no more than that is known.
"""

import pickle
import queue
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import jaxnet
from benchmarks.cluster import Cluster, best_chunk, forecast, simulate
from jaxnet.sweeps.folder.identity import identify
from jaxnet.sweeps.folder.store import Result, Store
from jaxnet.sweeps.space.job import Job
from jaxnet.sweeps.space.space import Random

SETTINGS: dict[str, Any] = {"hidden": (20,), "batch_size": 100}
NETWORKS = 10**6
NODES = (1, 8, 64, 1024)
LARGEST = 4096  # networks of a chunk: 24 GB with gradients and state, on a GPU

# One GPU, on paper. A net 3072-160-10, batch 400, 2000 steps, as in the course's grid: 8e8 FLOP a
# step. An H200 has 495 TFLOP/s of dense TF32 by its data sheet; a quarter of that is assumed, and
# 100 µs of launches a step. Failures: 419 of 16,384 GPUs in 54 days (Llama 3, arXiv:2407.21783).
# Start, compilation, network and price are guesses of the order of magnitude.
FLOPS = 4 * 400 * 3072 * 160 + 6 * 400 * 160 * 10
ASSUMED: dict[str, float] = {
    "step_fixed": 1e-4,
    "step_each": FLOPS / (0.25 * 495e12),
    "compile": 30.0,
    "start": 120.0,
    "data_bytes": 184e6,
    "bandwidth": 1.25e9,
    "failures": 419 / (16_384 * 54 * 86_400),
    "recovery": 300.0,
    "price": 3.0,
}


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return the checks, then the forecasts."""
    with tempfile.TemporaryDirectory() as folder:
        trained, rows = _sweeps(smoke)
        driver = _driver(Path(folder), smoke)
        here = replace(trained, **driver)
        rows += [_slept(here, Path(folder), nodes, 0.0, smoke) for nodes in (1, 2, 4, 8, 16, 32)]
        rows.append(_slept(here, Path(folder), 4, 2.0, smoke))
    gpu = Cluster(steps=2000, **ASSUMED, **driver)
    return rows + forecasts(gpu)


def forecasts(gpu: Cluster) -> list[dict[str, Any]]:
    """Return the rows of a million networks, and of what each part changes."""
    rows = []
    for nodes in NODES:
        chunk = best_chunk(gpu, NETWORKS, nodes, LARGEST)
        rows.append(_forecast("forecast", gpu, nodes, chunk))
    for chunk in (16, 256, 4096):
        rows.append(_forecast(f"chunk {chunk}", gpu, 64, chunk))
    others = {
        "data 18 GB": replace(gpu, data_bytes=100 * gpu.data_bytes),
        "failures × 1000": replace(gpu, failures=1000 * gpu.failures),
        "driver ÷ 10": replace(gpu, commit_each=gpu.commit_each / 10),
    }
    for name, other in others.items():
        rows.append(_forecast(name, other, 1024, best_chunk(other, NETWORKS, 1024, LARGEST)))
    return rows


def _row(what: str, nodes: int, chunk: int, **values: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("measured_per_s", "model_per_s", "simulated_per_s", "hours", "cost"))
    return {"what": what, "nodes": nodes, "chunk": chunk, **empty, **values}


def _forecast(what: str, cluster: Cluster, nodes: int, chunk: int) -> dict[str, Any]:
    paper = forecast(cluster, NETWORKS, nodes, chunk)
    runs = [simulate(cluster, NETWORKS, nodes, chunk, seed) for seed in range(3)]
    return _row(
        what,
        nodes,
        chunk,
        model_per_s=paper.per_second,
        simulated_per_s=NETWORKS / float(np.median(runs)),
        hours=paper.hours,
        cost=paper.cost,
        limit=paper.limit,
        most_nodes=paper.most_nodes,
    )


# --- parts measured here --------------------------------------------------------------------------


def line(points: dict[int, float]) -> tuple[float, float]:
    """Return (fixed, each) of seconds = fixed + each·K, least squares of relative errors, ≥ 0."""
    sizes, seconds = np.array([*points]), np.array([*points.values()])
    design = np.stack([1 / seconds, sizes / seconds], axis=1)
    fixed, each = np.linalg.lstsq(design, np.ones(len(sizes)), rcond=None)[0]
    if fixed < 0:
        return 0.0, float(np.mean(seconds / sizes))
    return float(fixed), float(max(each, 0.0))


def _space(count: int) -> Random:
    return jaxnet.random_draws(count, learning_rate=jaxnet.log_uniform(1e-4, 1e-1))


def _seconds(call: Any, repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def _sweeps(smoke: bool) -> tuple[Cluster, list[dict[str, Any]]]:
    """Return a node as this machine is, and sweeps in chunks beside what is expected of them."""
    steps = 2 if smoke else 200
    data = jaxnet.data.load("fashion-mnist-mini")

    def sweep(count: int, memory: float | None = None) -> object:
        return jaxnet.sweep(_space(count), data, steps=steps, memory=memory, **SETTINGS)

    sizes, points, first = (2, 4) if smoke else (4, 16, 64), {}, []
    for size in sizes:
        first.append(_seconds(lambda size=size: sweep(size), 1))
        points[size] = _seconds(lambda size=size: sweep(size), 1)
    fixed, each = line(points)
    compile_ = max(0.0, float(np.median(np.array(first) - np.array([*points.values()]))))
    node = Cluster(fixed / steps, each / steps, steps, 0.0, 0.0, 0.0)
    rows = []
    for share, count in ((2, 4),) if smoke else ((16, 128), (32, 128)):
        whole = jaxnet.plan(_space(count), data, steps=steps, **SETTINGS)
        memory = whole.bytes / share
        planned = jaxnet.plan(_space(count), data, steps=steps, memory=memory, **SETTINGS)
        chunk = planned.groups[0].chunks[0].size
        sweep(count, memory)  # compile
        seconds = _seconds(lambda c=count, m=memory: sweep(c, m), 1)
        paper = forecast(node, count, 1, chunk)
        rows.append(
            _row(
                "check: a sweep",
                1,
                chunk,
                measured_per_s=count / seconds,
                model_per_s=paper.per_second,
                simulated_per_s=count / simulate(node, count, 1, chunk),
                limit=paper.limit,
                most_nodes=1,
            )
        )
    return replace(node, compile=compile_), rows


def _results(count: int) -> list[Result]:
    """Return results of trained networks as a node would send them."""
    job = Job(_space(count), steps=500)
    row = jaxnet.train(steps=500, **SETTINGS, learning_rate=1e-2).rows[0]
    return [Result(one.key, one.settings, row.outcome) for one in identify(job)]


def _driver(folder: Path, smoke: bool) -> dict[str, float]:
    """Return what the driver takes for a chunk: to name its networks, to unpack and to commit."""
    points, content = {}, b""
    for size in (5, 10) if smoke else (10, 100, 1000):
        results = _results(size)
        content = pickle.dumps(results)
        with Store(folder / f"{size}.db") as store:

            def commit(size: int = size, store: Store = store, content: bytes = content) -> None:
                identify(Job(_space(size), steps=500))
                store.add(pickle.loads(content))

            points[size] = _seconds(commit, 1 if smoke else 7)
    fixed, each = line(points)
    size = max(points)
    return {"commit_fixed": fixed, "commit_each": each, "result_bytes": len(content) / size}


def _slept(here: Cluster, folder: Path, nodes: int, failures: float, smoke: bool) -> dict[str, Any]:
    """Return how fast a driver is whose nodes sleep, beside model and simulation."""
    chunk, chunks, sleeping = (5, 3, 0.01) if smoke else (100, 48, 0.1)
    cluster = replace(
        here, step_fixed=sleeping, step_each=0.0, steps=1, compile=0.0, failures=failures
    )
    message = pickle.dumps(_results(chunk))
    tasks: queue.SimpleQueue[bool] = queue.SimpleQueue()
    done: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def node(number: int) -> None:
        generator = np.random.default_rng(number)
        while tasks.get():
            fails = generator.exponential(1 / failures) if failures else sleeping
            time.sleep(min(fails, sleeping))
            done.put(None if fails < sleeping else message)

    threads = [threading.Thread(target=node, args=(n,)) for n in range(nodes)]
    for thread in threads:
        thread.start()
    with Store(folder / f"slept-{nodes}-{failures:g}.db") as store:
        start, left = time.perf_counter(), chunks
        for _ in range(chunks):
            tasks.put(True)
        while left:
            arrived = done.get()
            if arrived is None:
                tasks.put(True)
                continue
            identify(Job(_space(chunk), steps=500))
            store.add(pickle.loads(arrived))
            left -= 1
        seconds = time.perf_counter() - start
    for _ in threads:
        tasks.put(False)
    for thread in threads:
        thread.join()
    networks = chunk * chunks
    paper = forecast(cluster, networks, nodes, chunk)
    runs = [simulate(cluster, networks, nodes, chunk, seed) for seed in range(5)]
    return _row(
        "check: nodes that sleep" + (" and fail" if failures else ""),
        nodes,
        chunk,
        measured_per_s=networks / seconds,
        model_per_s=paper.per_second,
        simulated_per_s=networks / float(np.median(runs)),
        limit=paper.limit,
        most_nodes=paper.most_nodes,
    )
