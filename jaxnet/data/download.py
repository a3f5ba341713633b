"""Download a known data set from its official address."""

from pathlib import Path
from typing import Any

from jaxnet.arguments.signatures import checked
from jaxnet.data.sources import DATA_DIR_VARIABLE, Source, get, places, resolve, search
from jaxnet.errors import DataError

MAX_RETRIES = 3
TIMEOUT_SECONDS = 30.0  # without a byte from the server


@checked
def fetch(name: str, *, data_dir: Path | str | None = None, progress: bool = False) -> Path:
    """Download a data set into the data directory, unless it is there; return its path.

    A data set that is there and can be read is left alone. Every file is checked against its
    published md5 before it gets its name, and a failed attempt is repeated three times; `progress`
    shows a bar. Raises DataError if the download fails; no partial file stays behind.
    """
    source = get(name)
    found, _ = search(source, data_dir)
    if found is not None and not source.address:
        return found
    directory = resolve(data_dir)
    target = directory / source.fetched
    if found is not None:
        try:
            source.read(found)
            return found
        except DataError as error:
            looked_at = list(places(source, data_dir))
            if looked_at.index(found) < looked_at.index(target):
                raise DataError(
                    f"{found} is damaged and would hide a new download. Remove it, then run "
                    f"`jaxnet data fetch {name}` again. The damage: {error}"
                ) from error
    for file, md5 in source.files:
        _download(source, name, file, md5, directory, progress)
    source.read(target)
    return target


def _download(
    source: Source, name: str, file: str, md5: str, directory: Path, progress: bool
) -> None:
    import pooch
    import requests  # pooch's own dependency

    pooch.get_logger().setLevel("WARNING")  # otherwise it reports each step on stderr
    folder = directory / source.folder
    store = pooch.create(
        path=folder,
        base_url=source.address,
        registry={file: f"md5:{md5}"},
        retry_if_failed=MAX_RETRIES,
    )
    bar = _Bar(file) if progress else None
    # pooch documents both a bar object here and this downloader there; its annotations disagree.
    downloader: Any = pooch.HTTPDownloader(
        progressbar=bar or False,  # pyright: ignore[reportArgumentType]
        chunk_size=1 << 16,
        timeout=TIMEOUT_SECONDS,
    )
    try:
        store.fetch(file, downloader=downloader)
    except requests.HTTPError as error:
        raise DataError(
            f"{source.address}{file}: the server refused ({error}). "
            f"{_by_hand(source, name, folder)}"
        ) from error
    except requests.RequestException as error:
        raise DataError(
            f"{source.address}{file}: cannot be reached or broke off ({type(error).__name__}). "
            f"Check the network or its proxy. {_by_hand(source, name, folder)}"
        ) from error
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}). Set "
            f"{DATA_DIR_VARIABLE} to a writable folder with room for the data."
        ) from error
    except ValueError as error:
        raise DataError(
            f"{source.address}{file}: what arrived does not have the md5 {md5} that its authors "
            f"publish. Try again; a proxy may have put a page of its own in its place. "
            f"{_by_hand(source, name, folder)}"
        ) from error
    finally:
        if bar is not None:
            bar.close()


def _by_hand(source: Source, name: str, folder: Path) -> str:
    files = ", ".join(file for file, _ in source.files)
    return f"You can also get {files} of {name} elsewhere and put it into {folder}."


class _Bar:
    """A rich progress bar with the four methods that pooch asks for."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

        self._bar = Progress(
            "{task.description}",
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(title, total=None)

    @property
    def total(self) -> int:
        return int(self._bar.tasks[0].total or 0)

    @total.setter
    def total(self, size: int) -> None:
        self._bar.start()
        # A retry starts at zero. A server that does not tell the size gives 0.
        self._bar.reset(self._task, total=size or None)

    def update(self, size: int) -> None:
        self._bar.advance(self._task, size)

    def reset(self) -> None:
        self._bar.update(self._task, completed=0)

    def close(self) -> None:
        self._bar.stop()
