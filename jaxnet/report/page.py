"""Write the report: data, style, script and the plotting library in one HTML page."""

import base64
import gzip
import html
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError, RunFolderError
from jaxnet.host.files import write_whole
from jaxnet.host.texts import to_json
from jaxnet.report.content import content
from jaxnet.sweeps.folder.recorded import read_run
from jaxnet.sweeps.results.rows import Row

REPORT = "report.html"


def available() -> bool:
    """Whether Plotly is installed, which draws the report."""
    return find_spec("plotly") is not None


@checked
def write_report(
    runs: Sequence[Path | str], out: Path | str | None = None, *, rows: Sequence[Row] | None = None
) -> Path:
    """Write the report of a run folder, or of several side by side, and return its path.

    The report is one HTML file that opens offline, with the plotting library (Plotly) compressed
    inside. Its default path is `report.html` in the run's folder, or for several runs in the
    current one. A caller that has the rows of a single run can pass `rows`, which saves a read.

    Raises ConfigurationError without runs or without Plotly. Raises RunFolderError for a folder
    that is no run folder or has no results yet, and if the file cannot be written.
    """
    if not runs:
        raise ConfigurationError("expected at least one run folder")
    if not available():
        raise ConfigurationError(
            "a report needs Plotly, which is not installed: pip install 'jaxnet[report]'"
        )
    read = [read_run(folder, rows if len(runs) == 1 else None) for folder in runs]
    where = Path(out or (Path(runs[0]) / REPORT if len(runs) == 1 else REPORT))
    title = " and ".join(run.name for run in read) if len(read) < 4 else f"{len(read)} runs"
    page = _page(f"jaxnet: {title}", [content(run) for run in read])
    try:
        write_whole(where, page.encode("utf-8"))
    except OSError as error:
        raise RunFolderError(f"cannot write {where}: {error}") from error
    return where


def _page(title: str, runs: list[dict]) -> str:
    data = to_json({"title": title, "runs": runs}, separators=(",", ":"))
    parts = {
        "TITLE": html.escape(title),
        "STYLE": _asset("report.css"),
        "SCRIPT": _asset("report.js"),
        "PLOTLY": _plotly(),
        "DATA": data.replace("<", "\\u003c"),  # so that no text can end the script element
    }
    page = _asset("report.html")
    for name, text in parts.items():  # the data come last, so that nothing in them is replaced
        page = page.replace(f"{{{{{name}}}}}", text, 1)
    return page


def _asset(name: str) -> str:
    return (files("jaxnet.report") / "assets" / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _plotly() -> str:
    """Return Plotly's script, gzipped and in base64, which takes 2.0 instead of 4.8 MB."""
    script = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, 6, mtime=0)).decode()
