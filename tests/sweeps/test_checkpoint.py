"""A tree comes back bit by bit, a file that is not it is refused, and a half one cannot be."""

import contextlib
import os
import resource
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxnet.errors import RunFolderError
from jaxnet.sweeps.checkpoint import Checkpoint


class Pair(NamedTuple):
    first: Any
    second: Any


def tree(seed=0):
    generator = np.random.default_rng(seed)
    return Pair(
        {
            "affine_1": {"w": jnp.asarray(generator.normal(size=(3, 2, 4)), jnp.float32)},
            "steps": jnp.int32(seed),
            "alive": jnp.asarray(generator.random(5) < 0.5),
            "special": jnp.asarray([jnp.nan, jnp.inf, -0.0, 1e-45], jnp.float32),
            "empty": jnp.zeros((0, 3)),
        },
        [(), None, (generator.normal(size=(2, 3)), generator.random((4, 5)))],
    )


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert type(a) is type(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()  # NaN and −0 too


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "state.safetensors", interval=0.0)


def test_a_tree_comes_back_bit_by_bit(checkpoint):
    checkpoint.save(tree(1))
    assert_same(checkpoint.load(tree(0)), tree(1))
    # A later process knows nothing but the path.
    assert_same(Checkpoint(checkpoint.path).load(tree(0)), tree(1))


def test_float64_comes_back_as_float64(checkpoint):
    with jax.enable_x64(True):
        stored = {"w": jnp.asarray([1 / 3, np.pi])}
        assert stored["w"].dtype == np.float64
        checkpoint.save(stored)
        assert_same(checkpoint.load({"w": jnp.zeros(2)}), stored)


def test_arrays_of_numpy_come_back_writable(checkpoint):
    """The record of a run is written into."""
    checkpoint.save({"loss": np.zeros(3)})
    loaded = checkpoint.load({"loss": np.ones(3)})
    loaded["loss"][1] = 5
    assert loaded["loss"].tolist() == [0, 5, 0]


def test_an_array_is_stored_by_its_axes_and_not_as_it_lies_in_memory(checkpoint):
    """safetensors takes the bytes as they lie."""
    turned = {"loss": np.arange(6.0).reshape(2, 3).T}
    checkpoint.save(turned)
    np.testing.assert_array_equal(
        checkpoint.load({"loss": np.zeros((3, 2))})["loss"], turned["loss"]
    )


def test_nothing_stored_gives_what_was_there(checkpoint):
    like = tree(3)
    assert checkpoint.load(like) is like


def test_the_later_tree_replaces_the_earlier(checkpoint):
    checkpoint.save(tree(1))
    checkpoint.save(tree(2))
    assert_same(checkpoint.load(tree(0)), tree(2))
    assert os.listdir(checkpoint.path.parent) == [checkpoint.path.name]


def test_a_tree_is_stored_only_after_the_interval(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    checkpoint = Checkpoint(tmp_path / "state.safetensors", interval=30.0)
    checkpoint.save(tree(1))
    assert not checkpoint.path.exists()  # the run has just begun
    now += 29.9
    checkpoint.save(tree(1))
    assert not checkpoint.path.exists()
    now += 0.2
    checkpoint.save(tree(1))
    assert_same(checkpoint.load(tree(0)), tree(1))
    now += 29.9
    checkpoint.save(tree(2))
    assert_same(checkpoint.load(tree(0)), tree(1))
    checkpoint.save(tree(3), now=True)
    assert_same(checkpoint.load(tree(0)), tree(3))
    now += 29.9  # counted from the last time it was stored
    checkpoint.save(tree(4))
    assert_same(checkpoint.load(tree(0)), tree(3))


def test_what_is_removed_is_forgotten(checkpoint):
    checkpoint.remove()  # nothing there: nothing to do
    checkpoint.save(tree(1))
    checkpoint.remove()
    like = tree(0)
    assert checkpoint.load(like) is like
    assert os.listdir(checkpoint.path.parent) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t._replace(first=t.first | {"steps": jnp.float32(0)}), "steps.*float32"),
        (lambda t: t._replace(first=t.first | {"steps": jnp.zeros(1, jnp.int32)}), r"int32\[1\]"),
        (lambda t: t._replace(first=t.first | {"more": jnp.zeros(1)}), "more"),
        (lambda t: t._replace(first=t.first | {"alive": jnp.zeros(6, bool)}), r"bool\[6\]"),
    ],
)
def test_a_tree_of_another_shape_is_refused_by_the_leaf(checkpoint, change, named):
    checkpoint.save(tree(1))
    with pytest.raises(RunFolderError, match=f"is of another run: .*{named}.*Remove it"):
        checkpoint.load(change(tree(1)))


def test_a_tree_with_less_is_refused(checkpoint):
    """Leaves that nobody asks for are of another run as well."""
    checkpoint.save({"a": jnp.zeros(1), "b": jnp.zeros(1)})
    with pytest.raises(RunFolderError, match="is of another run"):
        checkpoint.load({"a": jnp.zeros(1)})


def test_a_foreign_safetensors_file_is_refused(checkpoint):
    save_file({"weights": np.zeros(3)}, checkpoint.path)
    with pytest.raises(RunFolderError, match="is of another run"):
        checkpoint.load(tree())


@pytest.mark.parametrize(
    "content", [b"", b"not tensors", bytes(100)], ids=["empty", "text", "zeros"]
)
def test_a_file_that_is_no_safetensors_is_refused(checkpoint, content):
    checkpoint.path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"state\.safetensors.*[Rr]emove it to start"):
        checkpoint.load(tree())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(checkpoint, share):
    checkpoint.save(tree(1))
    whole = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RunFolderError, match=r"state\.safetensors.*[Rr]emove it to start"):
        checkpoint.load(tree())


@contextlib.contextmanager
def a_full_disk():
    """No file may grow beyond 100 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_on_a_full_disk_the_old_tree_is_whole(checkpoint):
    checkpoint.save(tree(1))
    with a_full_disk(), pytest.raises(RunFolderError, match=r"cannot write .*state"):
        checkpoint.save(tree(2))
    assert_same(checkpoint.load(tree(0)), tree(1))
    checkpoint.save(tree(3))  # and what is left over is no hindrance
    assert_same(checkpoint.load(tree(0)), tree(3))


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError("I/O error")], ids=repr)
def test_cut_before_it_is_in_place_the_old_tree_is_whole(checkpoint, monkeypatch, fault):
    checkpoint.save(tree(1))

    def fail(*arguments):
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(RunFolderError if isinstance(fault, OSError) else KeyboardInterrupt):
            checkpoint.save(tree(2))
    assert_same(checkpoint.load(tree(0)), tree(1))
    checkpoint.save(tree(3))
    assert_same(checkpoint.load(tree(0)), tree(3))
    assert os.listdir(checkpoint.path.parent) == [checkpoint.path.name]


def test_a_folder_that_is_gone_is_an_error_of_the_run_folder(tmp_path):
    """safetensors raises an error of its own, which is no OSError."""
    checkpoint = Checkpoint(tmp_path / "gone" / "state.safetensors", interval=0.0)
    with pytest.raises(RunFolderError, match=r"cannot write .*state.*No such file"):
        checkpoint.save(tree())


def test_the_file_is_safetensors_that_others_can_read(checkpoint):
    checkpoint.save(tree(1))
    stored = load_file(checkpoint.path)
    shapes = sorted(a.shape for a in stored.values())
    assert shapes == sorted(leaf.shape for leaf in jax.tree.leaves(tree(1)))
