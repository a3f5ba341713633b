"""What a person looks at in a run folder: its pictures and its report, drawn when a run ends."""

from jaxnet.errors import RunFolderError
from jaxnet.report import figures
from jaxnet.report.page import available, write_report
from jaxnet.sweeps.folder.folder import DATABASE
from jaxnet.sweeps.results.sweep_result import SweepResult


def publish(result: SweepResult, *, complete: bool) -> None:
    """Draw the pictures of a complete run, and write the report of any run, into its folder.

    A run without a folder has nothing to publish; without Plotly there is no report. Raises
    RunFolderError where a file cannot be written.
    """
    folder = result.folder
    if folder is None:
        return
    try:
        if complete:
            figures.draw(result, folder)
        if available():
            write_report([folder], rows=result.rows)
    except OSError as error:
        raise RunFolderError(
            f"cannot write to {folder}: {error}. The results are safe in {folder / DATABASE}"
        ) from error
