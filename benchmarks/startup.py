"""From the command to something to see: imports, `--help`, the first result of the default sweep.

Each in a process of its own. The first result is the first row of the store of `jaxnet sweep`,
which is then stopped. With a compilation cache (JAX's, off by default) the programs of an earlier
run are read from disk.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timing import Timing, interleave

PATIENCE = 120.0


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a command: seconds of wall time."""
    commands: dict[str, Callable[[], object]] = {
        "python -c pass": lambda: _run("-c", "pass"),
        "import jax": lambda: _run("-c", "import jax"),
        "import jax, jaxnet": lambda: _run("-c", "import jax, jaxnet"),
        "import torch": lambda: _run("-c", "import torch"),
        "jaxnet --help": lambda: _run("-m", "jaxnet", "--help"),
        "jaxnet sweep --plan": lambda: _run("-m", "jaxnet", "sweep", "--plan"),
    }
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode:
        del commands["import torch"]
    if smoke:
        commands = {"jaxnet --help": commands["jaxnet --help"]}
    with tempfile.TemporaryDirectory() as folder:
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        if not smoke:
            _first_row({})  # files read once
            commands["first result of jaxnet sweep"] = lambda: _first_row({})
            _run(
                "-m",
                "jaxnet",
                "sweep",
                "--steps",
                "2",
                "--quiet",
                "--out",
                f"{folder}/run",
                **cache,
            )
            commands["the same, compilations cached"] = lambda: _first_row(cache)
        timings = interleave(commands, repeats=1 if smoke else 5)
    return [_row(name, timing) for name, timing in timings.items()]


def _row(name: str, timing: Timing) -> dict[str, Any]:
    return {"what": name, "s": timing.median, "fastest": timing.fastest, "first": timing.first}


def _run(*arguments: str, **environment: str) -> None:
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, **environment},
    )


def _first_row(environment: dict[str, str]) -> None:
    """Start the default sweep and stop it when its store has a row."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "run" / "sweep.db"
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxnet", "sweep", "--quiet", "--out", str(store.parent)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
        try:
            deadline = time.perf_counter() + PATIENCE
            while not _has_rows(store):
                if process.poll() is not None or time.perf_counter() > deadline:
                    raise RuntimeError("jaxnet sweep ended without a result")
                time.sleep(0.01)
        finally:
            process.terminate()
            process.wait()


def _has_rows(store: Path) -> bool:
    if not store.is_file():
        return False
    try:
        with sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True) as database:
            return database.execute("SELECT EXISTS (SELECT 1 FROM results)").fetchone()[0] == 1
    except sqlite3.OperationalError:  # not yet written
        return False
