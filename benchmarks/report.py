"""What a measurement leaves: a table on the screen and a JSON file with all that it depends on."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
from rich import box
from rich.console import Console
from rich.table import Table

from jaxnet.host.texts import to_json
from jaxnet.sweeps.folder.folder import versions

RESULTS = Path(__file__).parent / "results"
BUT_RESULTS = ("--", ":(top)", ":(top,exclude)benchmarks/results")
WIDTH = 220
PEERS = (
    "torch",
    "flax",
    "equinox",
    "scikit-learn",
    "chex",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
)


def print_rows(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows of equal keys as a table."""
    headings = [name.replace("_", " ") for name in rows[0]]
    table = Table(*headings, title=title, box=box.SIMPLE_HEAD, collapse_padding=True)
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console = Console()
    if not console.is_terminal:  # a file takes lines of any length
        console = Console(width=WIDTH)
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "–" if value is None else str(value)


def write_json(subject: str, rows: Sequence[dict[str, Any]], disturbed: float) -> Path:
    """Write rows and circumstances to results/SUBJECT-DEVICE.json and return its path.

    `disturbed` is the share of the timed calls beside which other processes were at work.
    """
    device = jax.devices()[0]
    content = {
        "subject": subject,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", *BUT_RESULTS)),
        "versions": {"python": platform.python_version(), **versions(), **_peers()},
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "device": f"{device.platform}: {device.device_kind}",
        },
        "disturbed": disturbed,
        "rows": list(rows),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{subject}-{device.platform}.json"
    path.write_text(to_json(content, indent=2) + "\n", encoding="utf-8")
    return path


def _peers() -> dict[str, str]:
    """Return the versions of the peers that are installed."""
    found = {}
    for name in PEERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, cwd=RESULTS.parent, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    extensions = [name for name in ("avx512f", "amx_bf16") if name in flags.split()]
    return (
        f"{names[0] if names else platform.processor()} ({', '.join(extensions) or 'no AVX-512'})"
    )
