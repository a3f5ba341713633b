import contextlib
import gzip
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest

from jaxnet.data import cifar10
from jaxnet.errors import DataError

LAYOUTS = ["py", "bin"]


def names(layout):
    return [b if layout == "py" else f"{b}.bin" for b in cifar10.BATCHES]


def pack(folder, archive, order=lambda names: names, extra=()):
    """A tar.gz of a folder under a top folder, members in a given order."""
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in extra:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name in order(sorted(p.name for p in folder.iterdir())):
            tar.add(folder / name, f"cifar-10-batches-py/{name}")
    return archive


def check(data, batches):
    """Compare pixel by pixel through the definition: plane, row, column."""
    rows = [batches[b] for b in cifar10.BATCHES[:-1]]
    planes = np.concatenate([p for p, _ in rows])
    assert data.train_images.shape == (len(planes), 32, 32, 3)
    for got, want in ((data.train_images, planes), (data.test_images, batches["test_batch"][0])):
        for channel in range(3):
            for y, x in ((0, 0), (0, 31), (17, 4), (31, 31)):
                expected = want[:, 1024 * channel + 32 * y + x]
                np.testing.assert_array_equal(got[:, y, x, channel], expected)
        np.testing.assert_array_equal(got.sum(axis=(1, 2, 3)), want.sum(axis=1))
    assert data.train_labels.tolist() == [y for _, labels in rows for y in labels]
    assert data.test_labels.tolist() == batches["test_batch"][1]
    assert data.class_names[3] == "cat"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_a_folder(tmp_path, by_hand, layout):
    batches = by_hand.write_cifar(tmp_path, layout)
    assert cifar10.lacks(tmp_path) == []
    check(cifar10.read(tmp_path), batches)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_an_archive_whatever_its_order(tmp_path, by_hand, layout):
    batches = by_hand.write_cifar(tmp_path / "f", layout)
    (tmp_path / "f" / "readme.html").write_text("hello")
    archive = pack(tmp_path / "f", tmp_path / "a.tar.gz", order=lambda names: names[::-1])
    check(cifar10.read(archive), batches)


def test_all_four_ways_give_one_fingerprint(tmp_path, by_hand):
    ways = []
    for layout in LAYOUTS:
        by_hand.write_cifar(tmp_path / layout, layout)
        ways += [tmp_path / layout, pack(tmp_path / layout, tmp_path / f"{layout}.tar.gz")]
    assert len({cifar10.read(way).fingerprint for way in ways}) == 1


@pytest.mark.parametrize(
    "flags",
    [
        b"\x89\x88",  # False, True: what NumPy pickles today
        b"K\x00K\x01",  # 0, 1: what the distributed files hold, a warning in NumPy 2.4.0 to 2.4.4
        b"K\x02K\x01",  # 2, 1: a warning in the later ones too
    ],
)
def test_flags_of_the_dtype_that_numpy_warns_of(tmp_path, by_hand, flags):
    batches = by_hand.write_cifar(tmp_path)
    for name, batch in batches.items():
        (tmp_path / name).write_bytes(by_hand.pickled_batch(*batch, flags))
    check(cifar10.read(tmp_path), batches)


@pytest.mark.parametrize("protocol", range(5))
def test_batches_pickled_anew_by_python_3(tmp_path, by_hand, protocol):
    batches = by_hand.write_cifar(tmp_path)
    for name, (planes, labels) in batches.items():
        batch = {"data": planes, "labels": labels}
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol))
    check(cifar10.read(tmp_path), batches)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_test_batch(tmp_path, by_hand, layout):
    by_hand.write_cifar(tmp_path, layout)
    (tmp_path / names(layout)[-1]).unlink()
    assert cifar10.lacks(tmp_path) == ["test_batch"]
    with pytest.raises(DataError, match="lacks test_batch"):
        cifar10.read(tmp_path)


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"lacks data_batch_1, .*jaxnet data fetch cifar10"):
        cifar10.read(tmp_path)


def test_two_layouts_in_one_folder(tmp_path, by_hand):
    for layout in LAYOUTS:
        by_hand.write_cifar(tmp_path, layout)
    with pytest.raises(DataError, match="holds data_batch_1 twice"):
        cifar10.read(tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_label_out_of_range(tmp_path, by_hand, layout):
    planes, labels = by_hand.write_cifar(tmp_path, layout)["data_batch_2"]
    labels[1] = 10
    write = by_hand.pickled_batch if layout == "py" else by_hand.binary_batch
    (tmp_path / names(layout)[1]).write_bytes(write(planes, labels))
    with pytest.raises(DataError, match=rf"{names(layout)[1]}: the label of row 1 is 10"):
        cifar10.read(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 3 * 3073 - 1])
def test_binary_file_that_is_no_whole_number_of_records(tmp_path, by_hand, size):
    by_hand.write_cifar(tmp_path, "bin")
    (tmp_path / "data_batch_3.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=rf"data_batch_3\.bin: {size:,} bytes, expected a multiple"):
        cifar10.read(tmp_path)


@pytest.mark.parametrize("keep", [0, 0.01, 0.5, 0.999])
def test_truncated_pickle(tmp_path, by_hand, keep):
    by_hand.write_cifar(tmp_path)
    path = tmp_path / "data_batch_4"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DataError, match="data_batch_4: cut short or corrupt"):
        cifar10.read(tmp_path)


@pytest.mark.parametrize("opcode", range(0, 256, 5))
def test_damaged_pickles_give_our_error_and_nothing_else(tmp_path, by_hand, opcode):
    batches = by_hand.write_cifar(tmp_path)
    path = tmp_path / "data_batch_1"
    content = by_hand.pickled_batch(*batches["data_batch_1"])
    for at in range(0, 200, 7):
        path.write_bytes(content[:at] + bytes([opcode]) + content[at + 1 :])
        with contextlib.suppress(DataError):  # or it reads: some bytes do not matter
            cifar10.read(tmp_path)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1], "expected a pickled dictionary, got list"),
        ({"data": 1}, "lacks the entry labels, has 'data'"),
        ({}, "lacks the entry data and labels, has none"),
        ({"data": 1, "labels": [1]}, "expected data of uint8"),
        ({"data": np.zeros((1, 3072), np.int64), "labels": [1]}, r"got int64 \[1, 3072\]"),
        ({"data": np.zeros((1, 3071), np.uint8), "labels": [1]}, r"got uint8 \[1, 3071\]"),
        ({"data": np.zeros(3072, np.uint8), "labels": [1]}, r"got uint8 \[3072\]"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "1 labels for 2 images"),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, "at least one"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [1.0]}, "list of integers"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [2**70]}, f"row 0 is {2**70}"),
    ],
)
def test_pickles_that_are_no_batch(tmp_path, by_hand, batch, message):
    by_hand.write_cifar(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, 4))
    with pytest.raises(DataError, match=f"test_batch: .*{message}"):
        cifar10.read(tmp_path)


def test_a_pickle_that_runs_a_command_is_refused_before_it_does(tmp_path, by_hand):
    by_hand.write_cifar(tmp_path)
    marker = tmp_path / "marker"
    command = f"touch {marker}"
    evil = f"cposix\nsystem\n(S'{command}'\ntR.".encode()
    pickle.loads(evil)
    assert marker.exists()  # the attack works on an unguarded reader
    marker.unlink()
    (tmp_path / "data_batch_5").write_bytes(evil)
    with pytest.raises(DataError, match=r"data_batch_5: refused, .* asks for posix\.system"):
        cifar10.read(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("os", "system"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core.multiarray", "_reconstruct.__self__"),
        ("numpy.core.multiarray", "fromfile"),
        ("_codecs", "decode"),
        ("copyreg", "_reconstructor"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])  # 4 splits dotted names
def test_every_other_name_is_refused(tmp_path, by_hand, module, name, protocol):
    by_hand.write_cifar(tmp_path)
    if protocol == 2:
        evil = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"."
    else:
        text = [b"\x8c" + bytes([len(s)]) + s.encode() for s in (module, name)]
        evil = b"\x80\x04" + b"".join(text) + b"\x93."
    (tmp_path / "data_batch_1").write_bytes(evil)
    with pytest.raises(DataError, match=rf"refused, this pickle asks for {module}\.{name}"):
        cifar10.read(tmp_path)


def test_a_pickle_cannot_leave_anything_behind_on_what_it_is_given(tmp_path, by_hand):
    by_hand.write_cifar(tmp_path)
    # BUILD with a slot state sets attributes on the object below it: here on our dtype maker.
    build = b"\x80\x02cnumpy\ndtype\nN}U\x01xK\x01s\x86b."
    (tmp_path / "data_batch_1").write_bytes(build)
    with pytest.raises(DataError, match="cut short or corrupt"):
        cifar10.read(tmp_path)


def test_archive_with_a_member_that_points_outside(tmp_path, by_hand):
    by_hand.write_cifar(tmp_path / "in" / "f")
    for evil in ("../evil", "cifar-10-batches-py/../../data_batch_1", "/evil"):
        archive = pack(tmp_path / "in" / "f", tmp_path / "in" / "a.tar.gz", extra=[(evil, b"x")])
        with pytest.raises(DataError, match=rf"a\.tar\.gz: refused, its member '{evil}'"):
            cifar10.read(archive)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert {p.name for p in (tmp_path / "in").iterdir()} == {"f", "a.tar.gz"}


def test_archive_with_a_link_for_a_batch(tmp_path, by_hand):
    by_hand.write_cifar(tmp_path / "f")
    secret = tmp_path / "secret"
    (tmp_path / "f" / "test_batch").replace(secret)
    (tmp_path / "f" / "test_batch").symlink_to(secret)
    with pytest.raises(DataError, match="lacks test_batch"):
        cifar10.read(pack(tmp_path / "f", tmp_path / "a.tar.gz"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("keep", [0, 0.001, 0.3, 0.5, 0.9, 0.9999])
def test_archive_cut_short(tmp_path, by_hand, layout, keep):
    by_hand.write_cifar(tmp_path / "f", layout)
    archive = pack(tmp_path / "f", tmp_path / "a.tar.gz")
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DataError, match=r"a\.tar\.gz: (cut short|lacks|.*\d bytes)"):
        cifar10.read(archive)


def test_archive_with_a_wrong_checksum(tmp_path, by_hand):
    """The one sign of a flipped pixel: the gzip checksum, which tarfile itself does not check."""
    by_hand.write_cifar(tmp_path / "f", "bin")
    archive = pack(tmp_path / "f", tmp_path / "a.tar.gz")
    # Zeros after the end, as tar pads to whole blocks: more than tarfile reads on its own.
    content = gzip.compress(gzip.decompress(archive.read_bytes()) + bytes(3 << 20))
    archive.write_bytes(content)
    cifar10.read(archive)
    (crc,) = struct.unpack("<I", content[-8:-4])
    archive.write_bytes(content[:-8] + struct.pack("<I", crc ^ 1) + content[-4:])
    with pytest.raises(DataError, match="CRC check failed"):
        cifar10.read(archive)


def test_not_an_archive(tmp_path):
    (tmp_path / "a.tar.gz").write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"a\.tar\.gz: cut short or corrupt"):
        cifar10.read(tmp_path / "a.tar.gz")
