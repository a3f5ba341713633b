"""Whatever bytes a file holds, a reader reads it or raises jaxnet's own error: soon, and in little
memory. And what has been found in it, or could be: as small files.

`python tests/hostile/fuzz.py 10000` does more of the same.
"""

import contextlib
import gzip
import io
import json
import os
import pickle
import sqlite3
import struct
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import jaxnet
from jaxnet.cli import parser as cli
from jaxnet.data import cifar10
from jaxnet.data.idx import read_idx
from jaxnet.data.npy import read_npy
from jaxnet.data.pickled import read_pickle
from jaxnet.errors import ConfigurationError, DataError, JaxnetError, RunFolderError
from jaxnet.sweeps.folder.checkpoint import StoredStack
from jaxnet.sweeps.folder.store import Store, read_store
from jaxnet.sweeps.run.run import Resources, Run
from jaxnet.sweeps.space.job import Job, read_job
from jaxnet.training.layout import Layout
from jaxnet.training.network import Network

FUZZ = Path(__file__).with_name("fuzz.py")
MUTANTS = int(os.environ.get("JAXNET_FUZZ", "100"))
READERS = [
    *("idx", "idx, gzipped", "fashion-mnist", "npy"),
    *("cifar10, pickled", "cifar10, binary", "cifar10, archive"),
    *("weights", "weights of a user's model", "network to train on", "stack in flight"),
    *("judged", "layers", "store", "store, shown"),
    *("job, TOML", "job, JSON", "config.json", "summary.json"),
]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """What became of the mutants, by reader: in a process of its own, whose memory is limited."""
    keep = tmp_path_factory.mktemp("keep")
    ran = subprocess.run(
        [sys.executable, str(FUZZ), str(MUTANTS)],
        capture_output=True,
        text=True,
        env={**os.environ, "FUZZ_KEEP": str(keep)},
        timeout=600 + MUTANTS,
    )
    assert ran.returncode == 0, f"{ran.stderr[-3000:]}\nkept in {keep}"  # such as a crash in C
    return json.loads(ran.stdout)


@pytest.mark.parametrize("reader", READERS)
def test_mutants_are_read_or_refused(fuzzed, reader):
    assert sorted(fuzzed) == sorted(READERS)
    found = fuzzed[reader]
    assert found["faults"] == {}
    assert found["read"] + found["refused"] == MUTANTS
    if reader != "stack in flight":  # which is removed in silence, and trained again
        assert found["refused"] > MUTANTS / 100  # else nothing was damaged
    assert found["read"]  # else nothing but the first check was tried


def test_the_fuzzer_finds_faults():
    """Readers that crash, swell, dawdle, and talk: each is told."""
    script = f"""
import json, random, sys, tempfile
from pathlib import Path
sys.argv = ["", "0"]
sys.path.insert(0, {str(FUZZ.parent)!r})
import fuzz, signal
signal.signal(signal.SIGPROF, fuzz.ring)
fuzz.SECONDS = 0.2
def swell(mutant): bytearray(1 << 40)
def dawdle(mutant):
    while True: pass
def talk(mutant): raise fuzz.JaxnetError("x") if False else fuzz.ConfigurationError("x" * 3999)
def crash(mutant): [][1]
make = lambda random: b"x"
readers = dict(crash=crash, swell=swell, dawdle=dawdle, talk=talk)
keep = Path(tempfile.mkdtemp())
print(json.dumps({{n: fuzz.fuzz(n, make, r, 2, keep)["faults"] for n, r in readers.items()}}))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    told = {name: next(iter(faults), "none").partition(":")[0] for name, faults in found.items()}
    expected = {"crash": "IndexError", "swell": "MemoryError", "dawdle": "TooSlow", "talk": "none"}
    assert told == expected


# --- what claims to be large ----------------------------------------------------------------------


def test_an_idx_file_of_a_million_million_entries(tmp_path):
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 10**4, 10**4, 10**4) + bytes(100))
    with pytest.raises(DataError, match="1,000,000,000,000 bytes"):
        read_idx(path, 3)


def test_an_idx_file_that_unfolds_without_end(tmp_path):
    """A gzip stream of 60 MB can hold the 60 GB that this header says."""
    path = tmp_path / "x-idx3-ubyte.gz"
    header = struct.pack(">HBB3I", 0, 8, 3, 60_000, 1000, 1000)
    path.write_bytes(gzip.compress(header + bytes(1 << 22)))
    with pytest.raises(DataError, match=r"60,000,000,000 bytes.*at most"):
        read_idx(path, 3)


def test_an_npy_file_of_a_million_million_entries(tmp_path):
    file = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(file, description)
    (tmp_path / "a.npy").write_bytes(file.getvalue() + bytes(9))
    with pytest.raises(DataError, match="1,000,000,000,000 bytes, of which 9 are there"):
        read_npy(tmp_path / "a.npy")


def test_weights_of_a_million_million_entries(tmp_path):
    header = {
        "params/affine_1/w": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 8]}
    }
    text = json.dumps(header).encode()
    path = tmp_path / "w.safetensors"
    for claim in (len(text), 10**12):
        path.write_bytes(struct.pack("<Q", claim) + text + bytes(8))
        with pytest.raises(DataError, match="not a whole safetensors file"):
            Network.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[random]\ncount = 1000000000000\nl2 = {uniform = [0, 1]}", "at most 10,000,000"),
        ("replicates = 2000000000\n[grid]\nl2 = [0.0]", "at most 10,000,000"),
        ("steps = 2000000000\nevaluations = 2000000000\n[grid]\nl2 = [0.0]", "evaluations: "),
        ("steps = 2000000000\nhistory = 2000000000\n[grid]\nl2 = [0.0]", "history: "),
        (
            "[grid]\nhidden = [[1000000000000]]",
            "hidden: expected a whole number from 1 to 2,147",
        ),
        ("[grid]\nhidden = [[2000000000, 2000000000]]", "memory: one network"),
        ("[grid]\nl2 = " + "[" * 5000, "nested too deeply"),
        (".".join("a" * 20_000) + " = 1", "nested too deeply"),  # takes 13 s and 2.3 GB to read
        ("[" + " . ".join(["'a,='", '"\\"{\u2028"'] * 9000) + "]", "nested too deeply"),
        ("steps = 1" + "0" * 5000, "not valid toml"),
        ("\ufeff\x00", "not valid toml"),
    ],
)
def test_jobs_of_a_million_million_entries(tmp_path, text, message, capsys):
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    assert cli.main(["sweep", str(path), "--plan"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_many_numbers_on_a_line_are_no_key(tmp_path):
    values = [k / 1000 for k in range(1, 300)]
    (tmp_path / "job.toml").write_text(f"[grid]\nlearning_rate = [\n{values}".replace("[0", "0", 1))
    assert read_job(tmp_path / "job.toml").space.count == 299


def stored(path, keys, hidden, **layout):
    return StoredStack(path=path, keys=keys, hidden=hidden, layout=Layout(**layout), step=0, end=9)


def test_a_stack_of_a_million_million_steps(tmp_path):
    """Of a span of steps arrays are made, and 8 bytes can say any."""
    data = jaxnet.data.load("fashion-mnist-mini")
    job = Job(jaxnet.grid(l2=[0.0]), steps=9, settings={"hidden": (2,)}, train=50, validation=20)
    run = Run(job, data, Resources())
    kept = stored(tmp_path / "none", run.keys, (2,))
    for span in ([0, 10**12], [-(10**12), 9], [9, 0]):
        with pytest.raises(ValueError, match="a span of steps"):
            run._restored(kept, {"span": np.array(span), "columns": np.array([0])})


def test_an_archive_whose_header_is_longer_than_any_file(tmp_path):
    """An extended header says of each of its records how long it is."""
    record = b"9" * 30 + b" mtime=0\n"
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, 2 * len(record)
    path = tmp_path / "cifar.tar.gz"
    content = header.tobuf(tarfile.USTAR_FORMAT) + (2 * record).ljust(512, b"\0")
    path.write_bytes(gzip.compress(content + bytes(4096)))
    with pytest.raises(DataError, match="cut short or corrupt"):
        cifar10.read(path)


def test_a_stack_on_no_device(tmp_path):
    with pytest.raises(ValueError, match="a stack of no width"):
        stored(tmp_path, ["a"], (2,), devices=0).check()


def test_a_stack_of_a_million_million_blocks(tmp_path):
    with pytest.raises(ValueError, match="a stack of 1000000000000 blocks"):
        stored(tmp_path, ["a"], (200,), size=4, padded=True, blocks=10**12).check()
    stored(tmp_path, ["a"], (200,), size=4, padded=True, blocks=28).check()


def test_axes_that_multiply_to_a_million_million(tmp_path):
    names = ["l2", "learning_rate", "init_scale", "label_smoothing", "clip_norm", "dropout"]
    axis = json.dumps([k / 1000 for k in range(100)])
    (tmp_path / "job.toml").write_text("[grid]\n" + "\n".join(f"{n} = {axis}" for n in names))
    with pytest.raises(ConfigurationError, match="1,000,000,000,000 configurations"):
        read_job(tmp_path / "job.toml").configurations()


def test_a_json_of_brackets(tmp_path):
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(RunFolderError, match="nested too deeply"):
        jaxnet.diagnose(tmp_path)
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        read_job(tmp_path / "config.json")


# --- archives -------------------------------------------------------------------------------------


def archive(path, members):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name, size=0, **fields):
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def test_an_archive_of_many_members(tmp_path):
    path = archive(tmp_path / "a.tar.gz", [(member(f"f{k}"), b"") for k in range(2000)])
    with pytest.raises(DataError, match="more than 1000 members"):
        cifar10.read(path)


def test_an_archive_that_unfolds_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "MAX_BYTES", 1 << 20)
    path = archive(tmp_path / "a.tar.gz", [(member("data_batch_1", 1 << 22), bytes(1 << 22))])
    with pytest.raises(DataError, match="decompresses to more than 1,048,576 bytes"):
        cifar10.read(path)
    path.write_bytes(
        gzip.compress(gzip.decompress(archive(path, []).read_bytes()) + bytes(1 << 22))
    )
    with pytest.raises(DataError, match="decompresses to more than"):
        cifar10.read(path)


def test_an_archive_with_a_sparse_member_of_a_million_million_bytes(tmp_path):
    fields = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "data_batch_1"}
    fields["GNU.sparse.realsize"] = str(10**12)
    info = member("data_batch_1", 512, pax_headers=fields)
    path = archive(tmp_path / "a.tar.gz", [(info, b"0\n".ljust(512, b"\0"))])
    with pytest.raises(DataError, match="lacks data_batch_1"):
        cifar10.read(path)


# --- pickles that name nothing forbidden ----------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b")" + b"\x85" * 50_000 + b"K\x01s",  # a tuple as deep as that, as a key: its hash recurs
        b"r\xff\xff\xff\x7f",  # a place in the memory beyond any: 16 GB of it in Python's machine
        b"\x8e" + struct.pack("<Q", 10**12),  # so many bytes
        b"\x95" + struct.pack("<Q", 10**12),  # a frame of as many
        b"c_codecs\nencode\nX\x03\x00\x00\x00abcX\x04\x00\x00\x00idna\x86R",  # takes its time
        b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R",  # room for so many
    ],
)
def test_pickles_that_would_fill_the_memory_or_the_stack(body):
    with contextlib.suppress(DataError):
        assert read_pickle(b"\x80\x04}" + body + b".", "here") == {}


def test_nothing_of_a_pickle_is_made_by_numpy():
    """NumPy's own parts take a pickle's fields and flags at their word, and free what they name."""
    pickled = pickle.dumps({"data": np.zeros(3, [("a", "u1"), ("b", "i4")]), "labels": []}, 2)
    assert type(read_pickle(pickled, "here")["data"]).__module__ == "jaxnet.data.pickled"


# --- run folders of strangers ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    jaxnet.train(out=out, steps=3, hidden=(2,), batch_size=20, train=50, validation=20)
    return out


@pytest.fixture
def folder(run, tmp_path):
    import shutil

    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.mark.parametrize("name", ["results.csv", "report.html", "networks", "sweep.db"])
def test_a_link_out_of_the_folder_is_refused(folder, tmp_path, name):
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    before = outside.read_bytes() if outside.is_file() else sorted(outside.iterdir())
    for use in (
        lambda: jaxnet.write_report([folder]),
        lambda: jaxnet.train(
            out=folder, steps=4, hidden=(2,), batch_size=20, train=50, validation=20
        ),
    ):
        with pytest.raises(RunFolderError, match="is a link out of the run folder"):
            use()
    assert before == (outside.read_bytes() if outside.is_file() else sorted(outside.iterdir()))


def test_a_link_that_is_in_the_way_of_a_new_file_is_replaced(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    network = jaxnet.train(steps=1, hidden=(2,), batch_size=20, train=50, validation=20).network
    for name in ("w.safetensors", "w.safetensors.partial"):
        (tmp_path / name).symlink_to(outside)
    network.save(tmp_path / "w.safetensors")
    assert outside.read_text() == "mine"
    assert Network.load(tmp_path / "w.safetensors").net.hidden == (2,)


VIEW = """DROP TABLE results; CREATE VIEW results AS WITH RECURSIVE n(key) AS
(SELECT 1 UNION ALL SELECT key + 1 FROM n)
SELECT key, 1 AS settings, 1 AS steps, 1 AS final_loss, 1 AS train_accuracy, 1 AS val_accuracy,
1 AS status, 1 AS history FROM n"""
COMPUTED = """DROP TABLE results; CREATE TABLE results (key, settings, steps, final_loss,
train_accuracy, val_accuracy, status, history AS (zeroblob(900000000)));
INSERT INTO results VALUES ('k', '{}', 1, 1, 1, 1, 'ok')"""


TRIGGER = """CREATE TRIGGER t AFTER INSERT ON results BEGIN DELETE FROM rungs; END"""
INDEX = "CREATE INDEX i ON results (abs(steps))"
VIRTUAL = "DROP TABLE rungs; CREATE VIRTUAL TABLE rungs USING fts5(key, step, val_accuracy)"


@pytest.mark.parametrize("sql", [VIEW, COMPUTED, TRIGGER, INDEX, VIRTUAL])
def test_a_store_whose_tables_are_programs(folder, sql):
    with closing(sqlite3.connect(folder / "sweep.db")) as store:
        store.executescript(sql)
    for read in (read_store, Store):
        with pytest.raises(RunFolderError, match=r"and nothing else|has other columns"):
            read(folder / "sweep.db")
    with closing(sqlite3.connect(folder / "sweep.db", timeout=0)) as store:
        store.execute("PRAGMA journal_mode = DELETE")  # nothing holds it open


def test_a_journal_that_names_a_file_elsewhere(folder, tmp_path):
    """SQLite deletes the second journal that a journal names, once it is played back."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    name = str(victim).encode()
    with closing(sqlite3.connect(folder / "sweep.db")) as store:
        store.execute("PRAGMA journal_mode = DELETE")
    pages = (folder / "sweep.db").stat().st_size // 4096
    magic = bytes.fromhex("d9d505f920a163d7")
    header = magic + struct.pack(">5I", 0, 1, pages, 512, 4096)
    journal = header.ljust(512, b"\0") + struct.pack(">I", 2**30 // 4096 + 1) + name
    journal += struct.pack(">2I", len(name), sum(name)) + magic
    (folder / "sweep.db-journal").write_bytes(journal)
    for read in (read_store, Store):
        with pytest.raises(RunFolderError, match="names other files"):
            read(folder / "sweep.db")
    (folder / "sweep.db-journal").rename(folder / "sweep.lock-journal")
    with pytest.raises(RunFolderError, match="names other files"):
        Store(folder / "sweep.db")
    (folder / "sweep.lock-journal").rename(folder / "sweep.db-journal")
    assert victim.read_text() == "mine"
    # The attack works on who opens the file unguarded; were it not, this test would show nothing.
    with closing(sqlite3.connect(folder / "sweep.db")) as store:
        store.execute("SELECT * FROM results").fetchall()
    assert not victim.exists()


def test_weights_run_no_code(tmp_path):
    """A pickle under the name of weights, or beside them, is no safetensors file."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "best.safetensors"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(JaxnetError):
        Network.load(path)
    np.save(tmp_path / "a.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot read"):
        read_npy(tmp_path / "a.npy")
    assert not (tmp_path / "ran").exists()


def test_nothing_in_the_package_loads_a_pickle():
    """Of Ray's own channel alone, were it used; the opcodes of CIFAR-10 are read, not run."""
    source = Path(jaxnet.__file__).parent
    for path in source.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name in ("import pickle\n", "pickle.load", "Unpickler", "allow_pickle=True", "dill"):
            assert name not in text.replace("Unlike pickle.load", ""), path
