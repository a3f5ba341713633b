"""Damage every kind of file that jaxnet reads, and report what is neither read nor refused.

python fuzz.py COUNT [READER ...]: so many mutants of each reader's files, in a process whose memory
is limited; one JSON object on stdout. A mutant has to be read, or to raise jaxnet's own error, in
SECONDS and within MEMORY. What it dies of, were it to, lies in `last` of the folder of $FUZZ_KEEP.
"""

import contextlib
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from mutate import damaged, damaged_json

import jaxnet
from jaxnet.data import DataSet, cifar10, fashion_mnist
from jaxnet.data.idx import read_idx
from jaxnet.data.npy import read_npy
from jaxnet.errors import ConfigurationError, JaxnetError
from jaxnet.report import figures, publishing
from jaxnet.report.content import content
from jaxnet.sweeps.folder import checkpoint
from jaxnet.sweeps.folder.folder import RunFolder, read_config
from jaxnet.sweeps.folder.network_file import load_saved, saved_step
from jaxnet.sweeps.folder.recorded import read_run
from jaxnet.sweeps.folder.store import Store, read_store
from jaxnet.sweeps.planning.plan_job import plan_job
from jaxnet.sweeps.results.judged import Judged
from jaxnet.sweeps.results.layer_history import LayerHistory
from jaxnet.sweeps.run.checks import check_job
from jaxnet.sweeps.run.run import Resources, Run, kept_network
from jaxnet.sweeps.space.job import Job, job_from_dict, read_job
from jaxnet.training.network import Network

SECONDS = 10.0  # of work, for one file of some kilobytes
WAITING = 60.0  # in all: of a machine that does other work, too
MEMORY = 1 << 30  # beyond what the process has when it begins
GROWTH = 600  # MB of resident memory, over all mutants of a reader


class TooSlow(BaseException):
    """Not caught by what catches all."""


def ring(signum, frame):
    raise TooSlow


# --- the files that are damaged -------------------------------------------------------------------


def make_data():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    centres = rng.uniform(60, 200, (3, 4, 3, 1))
    images = np.clip(centres[labels] + rng.normal(0, 60, (60, 4, 3, 1)), 0, 255).astype(np.uint8)
    return DataSet.from_arrays(images[:40], labels[:40], images[40:], labels[40:], ["a", "b", "c"])


class Files:
    """A run folder, a single run's, an interrupted one, and data sets, all tiny."""

    def __init__(self, root: Path):
        self.root, self.data = root, make_data()
        figures.draw = lambda *arguments: None  # neither pictures nor reports
        publishing.available = lambda: False
        settings = {"steps": 4, "hidden": (3,), "batch_size": 10, "evaluations": 2}
        space = jaxnet.grid(learning_rate=[1e9, 1e-1], l2=[0.0, 1e-3])
        self.swept, self.single, self.cut = root / "swept", root / "single", root / "cut"
        jaxnet.sweep(space, self.data, out=self.swept, keep=None, halving=2, **settings)
        jaxnet.train(self.data, out=self.single, **settings)
        checkpoint.INTERVAL = 0.0

        def stop(evaluation):
            if evaluation.step == 4:
                raise KeyboardInterrupt

        space = jaxnet.grid(learning_rate=[1e-1, 1e-2])
        with contextlib.suppress(KeyboardInterrupt):
            jaxnet.sweep(space, self.data, out=self.cut, callback=stop, **settings | {"steps": 8})
        self.job = read_job(self.swept / "config.json")
        self.cut_job = read_job(self.cut / "config.json")

        def init(key, width=2):
            return {"w": np.zeros((12, width), np.float32), "v": np.ones((width, 3), np.float32)}

        def loss(params, x, labels, key):
            scores = x.reshape(len(x), -1) @ params["w"] @ params["v"]
            return (scores**2).mean(), scores

        self.model = jaxnet.Model(init, loss)
        custom = root / "custom"
        jaxnet.sweep([{}], self.data, model=self.model, out=custom, steps=2, batch_size=10)
        self.custom = (custom / "best.safetensors").read_bytes()
        self.pickled = self._cifar()

    def _cifar(self):
        import pickle

        rng = np.random.default_rng(1)
        folder = self.root / "cifar"
        folder.mkdir()
        for name in cifar10.BATCHES:
            planes = rng.integers(0, 256, (2, 3072), np.uint8)
            batch = {"batch_label": name, "data": planes, "labels": [1, 7], "filenames": ["a", "b"]}
            (folder / name).write_bytes(pickle.dumps(batch, 2 if name == "test_batch" else 4))
        return folder

    def archive(self) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(self.pickled, "cifar-10-batches-py")
        return file.getvalue()


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def with_header(tensors: bytes, random) -> bytes:
    """A safetensors file in which a value of the header, or of the texts in it, is another."""
    (size,) = struct.unpack("<Q", tensors[:8])
    header = json.loads(tensors[8 : 8 + size])
    texts = header.get("__metadata__") or {}
    name = next(iter(texts), None)
    if name is not None and random.random() < 0.7:
        texts[name] = (
            damaged_json(texts[name], random)
            if random.random() < 0.8
            else damaged(texts[name].encode(), random, []).decode("latin-1")
        )
        text = json.dumps(header)
    else:
        text = damaged_json(json.dumps(header), random)
    return struct.pack("<Q", len(text.encode())) + text.encode() + tensors[8 + size :]


def with_cells(path: Path, random) -> bytes:
    """A store of which one cell is another."""
    copy = path.with_name("cells.db")
    shutil.copy(path, copy)
    with contextlib.closing(sqlite3.connect(copy)) as store, store:
        table = random.choice(["results"] * 4 + ["rungs"])
        names = [column[1] for column in store.execute(f"PRAGMA table_info({table})")]
        name = random.choice([*names, *(["settings", "history"] if table == "results" else [])])
        rows = store.execute(f"SELECT rowid, {name} FROM {table}").fetchall()
        if rows:
            row, value = random.choice(rows)
            if name == "settings":
                value = damaged_json(value, random)
            elif name == "history":
                value = (
                    with_header(value, random)
                    if random.random() < 0.5
                    else damaged(value, random, [])
                )
            else:
                value = random.choice(
                    [-1, 2**40, "x", "ok", "diverged@", 1e308, b"\x00", "", 0.5, "cut@2"]
                )
            with contextlib.suppress(sqlite3.IntegrityError):
                store.execute(f"UPDATE {table} SET {name} = ? WHERE rowid = ?", (value, row))
    found = copy.read_bytes()
    copy.unlink()
    return found


# --- readers: name -> (what makes a mutant, what reads it) ----------------------------------------


def subjects(files: Files):
    root = files.root
    images = idx(np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8))
    labels = idx(np.array([1, 2, 3], np.uint8))
    others = [images, labels]

    def raw(*seeds):
        return lambda random: damaged(random.choice(seeds), random, list(seeds) + others)

    def mixed(*makers):
        return lambda random: random.choice(makers)(random)

    def packed(maker):
        return lambda random: gzip.compress(maker(random), 1)

    def tensors(seed):
        return mixed(raw(seed), lambda random: with_header(seed, random))

    def texts(seed):
        text = seed.decode()
        return mixed(raw(seed), lambda random: damaged_json(text, random).encode())

    def at(name, read):
        """A reader of one file of that name."""
        path = root / name

        def one(mutant):
            path.write_bytes(mutant)
            read(path)

        return one

    def inside(folder, name, read):
        """A reader of a folder in which one file is a mutant."""
        copy = root / f"copy-{folder.name}-{name}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)

        def one(mutant):
            for path in (*copy.glob("*.partial"), *copy.glob("sweep.*-*")):
                path.unlink()
            (copy / name).write_bytes(mutant)
            read(copy)

        return one

    def show(folder):
        json.dumps(content(read_run(folder)), allow_nan=False)

    def expand(path):
        job = read_job(path)
        if job.space.count * job.replicates <= 100:
            check_job(job, files.data)
            with contextlib.suppress(ConfigurationError):
                plan_job(job, files.data)
        else:
            with contextlib.suppress(ConfigurationError):
                job.configurations() if job.space.count * job.replicates > 10**7 else None
        job_from_dict(job.to_dict())

    def fashion(folder):
        fashion_mnist.read(folder)

    fashion_folder = root / "fashion"
    fashion_folder.mkdir()
    for name in fashion_mnist.FILES:
        (fashion_folder / name).write_bytes(images if "images" in name else labels)

    run = Run(files.cut_job, files.data, Resources(), RunFolder(files.cut))

    def go_on(folder):
        for kept in list(checkpoint.find_stacks(folder)):
            checkpoint.restore(kept, run._restored)
        (stack,) = files.cut.glob(checkpoint.PATTERN)
        shutil.copy(stack, folder / stack.name)

    (stack,) = files.cut.glob(checkpoint.PATTERN)
    kept = sorted((files.swept / "networks").iterdir())[0]
    configuration = next(
        c
        for c, name in zip(files.job.configurations(), names_of(files.job), strict=True)
        if name == kept.stem
    )
    single_run = Run(files.job, files.data, Resources(), RunFolder(files.swept))
    prepared = single_run.prepared.on(configuration.structure)

    def resume(path):
        saved_step(path)
        load_saved(path, configuration, prepared)

    def store(path):
        for journal in root.glob("a.db-*"):
            journal.unlink()
        with contextlib.suppress(JaxnetError):
            read_store(path)
        with Store(path) as opened:
            opened.results(), opened.rungs()

    database = consolidated(files.swept / "sweep.db")
    weights = (files.swept / "best.safetensors").read_bytes()
    toml = b"""data = "arrays"
steps = 30
seed = 3
replicates = 2
halving = {eta = 2, first = 5}
[settings]
optimizer = "adam"
preprocessing = "standardize"
[random]
count = 5
learning_rate = {log_uniform = [1e-4, 1e-1]}
hidden = {choice = [[8], [16, 8]]}
dropout = {uniform = [0, 0.5]}
"""
    listed = b"""[[configuration]]
learning_rate = 0.1
hidden = [3, 3]
[[configuration]]
norm = "batch"
"""
    grid = b"""validation = 10
stop = {patience = 2}
[grid]
learning_rate = [0.1, 0.01]
hidden = [[2], [3]]
"""
    config = (files.swept / "config.json").read_bytes()
    array = io.BytesIO()
    np.save(array, np.zeros((2, 4, 3, 1), np.uint8))
    batch, again = ((files.pickled / name).read_bytes() for name in ("data_batch_1", "test_batch"))
    records = bytes(3073) + bytes([9]) * 3073
    return {
        "idx": (raw(images, labels), at("x-idx3-ubyte", lambda path: read_idx(path, 3))),
        "idx, gzipped": (
            mixed(raw(gzip.compress(images)), packed(raw(images))),
            at("x-idx3-ubyte.gz", lambda path: read_idx(path, 3)),
        ),
        "fashion-mnist": (
            raw(images, labels),
            inside(fashion_folder, fashion_mnist.FILES[0], fashion),
        ),
        "cifar10, pickled": (raw(batch, again), at("data_batch_1", cifar10.read_batch)),
        "cifar10, binary": (raw(records), at("data_batch_1.bin", cifar10.read_batch)),
        "cifar10, archive": (
            mixed(raw(gzip.compress(files.archive(), 1)), packed(raw(files.archive()))),
            at("a.tar.gz", cifar10.read),
        ),
        "npy": (raw(array.getvalue()), at("a.npy", read_npy)),
        "weights": (tensors(weights), at("best.safetensors", Network.load)),
        "weights of a user's model": (
            tensors(files.custom),
            at("custom.safetensors", lambda path: Network.load(path, files.model)),
        ),
        "network to train on": (tensors(kept.read_bytes()), at("kept.safetensors", resume)),
        "stack in flight": (tensors(stack.read_bytes()), inside(files.cut, stack.name, go_on)),
        "judged": (
            tensors((files.swept / "judged.safetensors").read_bytes()),
            inside(
                files.swept,
                "judged.safetensors",
                lambda f: (Judged.load(f / "judged.safetensors"), show(f)),
            ),
        ),
        "layers": (
            tensors((files.single / "layers.safetensors").read_bytes()),
            inside(
                files.single,
                "layers.safetensors",
                lambda f: (LayerHistory.load(f / "layers.safetensors"), show(f)),
            ),
        ),
        "store": (
            mixed(raw(database), lambda random: with_cells(root / "clean.db", random)),
            at("a.db", store),
        ),
        "store, shown": (
            lambda random: with_cells(root / "clean.db", random),
            inside(files.swept, "sweep.db", show),
        ),
        "job, TOML": (raw(toml, grid, listed), at("job.toml", expand)),
        "job, JSON": (texts(json.dumps(files.job.to_dict()).encode()), at("job.json", expand)),
        "config.json": (
            texts(config),
            inside(
                files.swept, "config.json", lambda f: (read_config(f), show(f), kept_network(f, 1))
            ),
        ),
        "summary.json": (
            texts((files.swept / "summary.json").read_bytes()),
            inside(files.swept, "summary.json", show),
        ),
    }


def names_of(job: Job) -> list[str]:
    from jaxnet.sweeps.folder.identity import identify

    return [identity.name for identity in identify(job)]


def consolidated(path: Path) -> bytes:
    """The store as one file, without its log; left as clean.db too."""
    copy = path.parent.parent / "clean.db"
    with (
        contextlib.closing(sqlite3.connect(path)) as store,
        contextlib.closing(sqlite3.connect(copy)) as clean,
    ):
        store.backup(clean)
        clean.execute("PRAGMA journal_mode = DELETE")
    return copy.read_bytes()


def fuzz(name, make, read, count, keep: Path):
    """Return what so many mutants came to."""
    generator = random.Random(f"{name}, 1")
    found = {"read": 0, "refused": 0, "faults": {}, "slowest": 0.0}
    began = time.perf_counter()
    for number in range(count):
        mutant = make(generator)
        (keep / "last").write_bytes(mutant)
        start = time.perf_counter()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WAITING)
        try:
            read(mutant)
            found["read"] += 1
        except JaxnetError as error:
            found["refused"] += 1
            if len(str(error)) > 4000:
                found["faults"].setdefault(f"a message of {len(str(error)):,} characters", number)
        except (Exception, TooSlow) as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "jaxnet" in f.filename]
            fault = f"{type(error).__name__}: {str(error)[:120]} at {' '.join(ours[-3:])}"
            if fault not in found["faults"]:
                (keep / f"{name.replace(' ', '_')}-{number}").write_bytes(mutant)
            found["faults"].setdefault(fault, number)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        found["slowest"] = max(found["slowest"], round(time.perf_counter() - start, 3))
    found["seconds"] = round(time.perf_counter() - began, 1)
    return found


def main(count: int, chosen: list[str]) -> None:
    for clock in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(clock, ring)
    keep = Path(os.environ.get("FUZZ_KEEP") or tempfile.mkdtemp())
    keep.mkdir(exist_ok=True)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        readers = subjects(Files(Path(folder)))
        for name in chosen or readers:
            make, read = readers[name]
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                results[name] = fuzz(name, make, read, count, keep)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
            results[name]["grown_mb"] = grown
            if grown > GROWTH:
                results[name]["faults"][f"resident memory grew by {grown} MB"] = -1
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            print(name, json.dumps(results[name]), file=sys.stderr, flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
