import dataclasses
import hashlib
import http.server
import socket
import tarfile
import threading
from types import SimpleNamespace

import pytest

from jaxnet.data import fetch, load
from jaxnet.data.sources import SOURCES
from jaxnet.errors import ConfigurationError, DataError


@pytest.fixture(autouse=True)
def hermetic(monkeypatch, without_debian):
    """No waiting between attempts, no proxy in front of 127.0.0.1, nothing of Debian's."""
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of a folder; `cut` bytes are missing from each body, `asked` lists the requests."""
    state = SimpleNamespace(folder=tmp_path / "served", cut=0, failures=0, asked=[])
    state.folder.mkdir()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append(self.path)
            path = state.folder / self.path.lstrip("/")
            if state.failures > 0:
                state.failures -= 1
                return self.send_error(503)
            if not path.is_file():
                return self.send_error(404)
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) - state.cut])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        state.address = f"http://127.0.0.1:{httpd.server_port}/"
        yield state
        httpd.shutdown()
        thread.join()


@pytest.fixture
def official(server, tmp_path, monkeypatch, by_hand):
    """Both data sets stand on the server, with the md5 that they have there."""
    by_hand.write_fashion(server.folder)
    by_hand.write_cifar(tmp_path / "f")
    with tarfile.open(server.folder / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "f", "cifar-10-batches-py")
    for name in ("fashion-mnist", "cifar10"):
        source = SOURCES[name]
        files = tuple(
            (file, hashlib.md5((server.folder / file).read_bytes()).hexdigest())
            for file, _ in source.files
        )
        changed = dataclasses.replace(source, address=server.address, files=files)
        monkeypatch.setitem(SOURCES, name, changed)
    return server


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def files(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_fetched_data_loads_and_is_not_fetched_twice(official, data_dir, capsys, name, progress):
    place = fetch(name, data_dir=data_dir, progress=progress)
    assert load(name, data_dir=data_dir).source == str(place)
    assert files(data_dir) == sorted(file for file, _ in SOURCES[name].files)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert ("ubyte" in seen.err or "cifar" in seen.err) == progress
    requests = len(official.asked)
    assert fetch(name, data_dir=data_dir) == place
    assert len(official.asked) == requests


@pytest.mark.usefixtures("official")
def test_the_environment_says_where(data_dir, monkeypatch):
    monkeypatch.setenv("JAXNET_DATA_DIR", str(data_dir))
    assert fetch("cifar10") == data_dir / "cifar-10-python.tar.gz"


def test_a_passing_failure_is_tried_again(official, data_dir):
    official.failures = 3
    fetch("cifar10", data_dir=data_dir)
    assert len(official.asked) == 4


def test_wrong_checksum(official, data_dir):
    (official.folder / "cifar-10-python.tar.gz").write_text("<html>log in to the hotel</html>")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: what arrived does not have"):
        fetch("cifar10", data_dir=data_dir)
    assert len(official.asked) == 4
    assert files(data_dir) == []


def test_not_found(official, data_dir):
    (official.folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"the server refused \(404.*You can also get train-"):
        fetch("fashion-mnist", data_dir=data_dir)
    assert files(data_dir) == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


def test_connection_that_breaks_off(official, data_dir):
    official.cut = 1
    with pytest.raises(DataError, match="cannot be reached or broke off"):
        fetch("cifar10", data_dir=data_dir)
    assert files(data_dir) == []


def test_unreachable(data_dir, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        source = dataclasses.replace(SOURCES["cifar10"], address=address)
        monkeypatch.setitem(SOURCES, "cifar10", source)
        with pytest.raises(DataError, match=r"cannot be reached.*Check the network or its proxy"):
            fetch("cifar10", data_dir=data_dir)
    assert files(data_dir) == []


@pytest.mark.usefixtures("official")
def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "fashion-mnist").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot be written.*Set JAXNET_DATA_DIR"):
        fetch("fashion-mnist", data_dir=tmp_path)


def test_a_good_copy_from_elsewhere_is_left_alone(official, data_dir, by_hand):
    """Debian's files and unpacked folders have other checksums, and serve as well."""
    by_hand.write_cifar(data_dir / "cifar-10-batches-bin", "bin")
    assert fetch("cifar10", data_dir=data_dir) == data_dir / "cifar-10-batches-bin"
    assert official.asked == []


@pytest.mark.usefixtures("official")
def test_a_damaged_download_is_replaced(data_dir):
    place = fetch("cifar10", data_dir=data_dir)
    place.write_bytes(place.read_bytes()[:-100])
    fetch("cifar10", data_dir=data_dir)
    load("cifar10", data_dir=data_dir)


def test_a_damaged_copy_that_would_hide_the_download(official, data_dir, by_hand):
    by_hand.write_cifar(data_dir / "cifar-10-batches-py")
    (data_dir / "cifar-10-batches-py" / "test_batch").write_bytes(b"")
    with pytest.raises(DataError, match=r"cifar-10-batches-py is damaged.*Remove it.*test_batch"):
        fetch("cifar10", data_dir=data_dir)
    assert official.asked == []


@pytest.mark.usefixtures("official")
def test_a_damaged_plain_file_beside_the_download_is_named(data_dir, by_hand):
    by_hand.write_fashion(data_dir / "fashion-mnist", gz=False)
    (data_dir / "fashion-mnist" / "t10k-labels-idx1-ubyte").write_bytes(b"x")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte: starts with 78"):
        fetch("fashion-mnist", data_dir=data_dir)


def test_what_is_part_of_the_package_needs_no_fetching(data_dir):
    assert fetch("fashion-mnist-mini", data_dir=data_dir).name == "fashion-mnist-mini"
    assert not data_dir.exists()


def test_unknown_name(data_dir):
    with pytest.raises(ConfigurationError, match="did you mean 'cifar10'"):
        fetch("cifar", data_dir=data_dir)
