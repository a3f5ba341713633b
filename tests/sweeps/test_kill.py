"""Killed at any moment and started again, a run finds what it would have found.

The runs are `jaxnet sweep job.toml --out RUN --quiet`, in processes that are forked from one that
has imported everything and computed nothing (a backend of JAX is not to be forked): a start takes
tenths of a second, not seconds, and is as real otherwise.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxnet.sweeps.folder.checkpoint import PATTERN
from jaxnet.sweeps.folder.store import Store

KILLS, MOST = 10, 40  # with each of the two jobs; more, while they come at one stage only

# Answers each line, [arguments, cache folder], with a process id, and that process's end with its
# status. What it forks keeps the stack in flight after every few steps.
SERVER = """
import json, os, sys

import jax
import jax.numpy
import optax

import jaxnet.cli.parser
import jaxnet.report.figures
from jaxnet.sweeps.run import run
from jaxnet.sweeps.stacks import stack
from jaxnet.sweeps.folder import checkpoint

def work(arguments, cache):
    os.setsid()
    out = os.open("worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_compilation_cache_dir", cache)
    checkpoint.INTERVAL = 0.0
    stack.SECONDS_PER_CALL = 2e-3
    jaxnet.report.figures.draw = lambda result, folder: None  # takes as long as all the rest
    code = 1
    try:
        code = jaxnet.cli.parser.main(arguments)
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(code)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        work(*json.loads(line))
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""

# Two depths, which are two groups, each of two seeds and three rates, of which one diverges.
SPACE = """
data = "fashion-mnist-mini"
steps = {steps}
validation = 90
train = 200
evaluations = 6

[settings]
batch_size = 10
optimizer = "momentum"
{more}
[grid]
learning_rate = [1e-2, 1e9, 1e-3]
hidden = [[6], [5, 4]]
seed = [0, 1]
"""


class Server:
    """Starts runs, and says how they end."""

    def __init__(self, folder):
        self.folder, self.reference_cache = folder, folder / "cache"
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=folder,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, job, out, *, kill_after=None, cache=None):
        """Return the exit code and the seconds; −9 for a run that was killed in time."""
        arguments = ["sweep", str(job), "--out", str(out), "--quiet"]
        started = time.monotonic()
        request = json.dumps([arguments, None if cache is None else str(cache)])
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(pid, signal.SIGKILL)
        return int(self._process.stdout.readline()), time.monotonic() - started

    def close(self):
        self._process.communicate(timeout=60)  # the end of its input is its end


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("killed"))
    yield made
    made.close()


def rows_of(folder):
    with contextlib.closing(sqlite3.connect(folder / "sweep.db")) as database:
        return {
            table: database.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for table in ("results", "rungs")
        }


def stage_of(folder):
    """Return what a killed run had come to."""
    try:
        found = rows_of(folder)["results"]
    except sqlite3.OperationalError:  # no file, or no tables in it yet
        return "start"
    stacks = list(folder.glob(PATTERN))
    return "in flight" if stacks else "committed" if found else "compiling"


@pytest.mark.slow
@pytest.mark.parametrize("halving", [False, True], ids=["plain", "halving"])
def test_a_run_killed_at_any_moment_goes_on_to_the_same_end(server, halving):
    folder = server.folder / f"halving-{halving}"
    folder.mkdir()
    job = folder / "job.toml"
    more = "[halving]\neta = 2\nfirst = 15\n" if halving else ""
    job.write_text(SPACE.format(steps=60, more=more))

    # What is to come out: twice, for how long it takes with programs that were compiled before.
    cache = folder / "cache"
    assert server.run(job, folder / "first", cache=cache)[0] == 0, log(server)
    code, seconds = server.run(job, folder / "reference", cache=cache)
    assert code == 0, log(server)
    table = (folder / "reference" / "results.csv").read_bytes()
    assert (folder / "first" / "results.csv").read_bytes() == table
    expected = rows_of(folder / "reference")
    assert len(expected["results"]) == 12
    assert b"diverged@" in table
    assert (b"cut@" in table) == halving

    # Moments in the whole life of a run, the earliest first, while nothing is there; one in five
    # compiles its programs anew.
    generator = np.random.default_rng(7 + halving)
    early, *later = (np.arange(KILLS) + generator.random(KILLS)) / KILLS
    moments = [early, *generator.permutation(later), *generator.random(MOST - KILLS)]
    out, stages = folder / "run", []
    for k, moment in enumerate(moments):
        if k >= KILLS and len(stages) >= KILLS / 3 and {"in flight"} < set(stages):
            break
        code, _ = server.run(
            job, out, kill_after=moment * seconds, cache=None if k % 5 == 4 else cache
        )
        if code == 0:  # what was left took less than that: begin again
            assert_complete(out, table, expected)
            shutil.rmtree(out)
            continue
        assert code == -signal.SIGKILL, log(server)
        stages.append(stage_of(out))

    assert server.run(job, out, cache=cache)[0] == 0, log(server)
    assert_complete(out, table, expected)
    # They came in time, and at several stages, or this has shown little.
    assert len(stages) >= KILLS / 3
    assert {"in flight"} < set(stages), (seconds, stages)
    # And once more there is nothing to do.
    assert server.run(job, out, cache=cache)[0] == 0, log(server)
    assert_complete(out, table, expected)


def assert_complete(out, table, expected):
    """The table byte for byte; each row once, bit for bit; nothing that is half done."""
    assert (out / "results.csv").read_bytes() == table
    found = rows_of(out)
    assert found == expected
    assert len({row[0] for row in found["results"]}) == len(found["results"])
    assert json.loads((out / "summary.json").read_text())["complete"]
    assert list(out.glob(PATTERN)) == []
    assert list(out.rglob("*.partial")) == []
    assert (out / "best.safetensors").read_bytes() == (
        out.parent / "reference" / "best.safetensors"
    ).read_bytes()
    networks = [
        {path.name for path in (folder / "networks").glob("*.safetensors")}
        for folder in (out.parent / "reference", out)
    ]
    # The network of every row that should have one; a killed run leaves some more.
    assert networks[0] <= networks[1]


def test_a_run_killed_while_it_makes_its_database_can_go_on(tmp_path):
    """What is on disk after each statement of the first start; no moment of a few 10 µs is rare."""
    path, statements = tmp_path / "sweep.db", []

    class Watched(sqlite3.Connection):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.set_trace_callback(statements.append)

    real = sqlite3.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **{"factory": Watched, **k}))
        with Store(path):
            pass
    begun = statements.index("PRAGMA journal_mode = WAL")
    kinds = ("CREATE", "PRAGMA", "BEGIN", "COMMIT")
    made = [s for s in statements[begun:] if s.split()[0].strip(";") in kinds]
    assert len(made) >= 3
    for count in range(len(made) + 1):
        killed = tmp_path / f"killed-{count}.db"
        with contextlib.closing(sqlite3.connect(killed, isolation_level=None)) as database:
            for statement in made[:count]:
                database.execute(statement)
        with Store(killed) as store:
            assert store.results() == []


def log(server):
    return (server.folder / "worker.log").read_text()[-3000:]
