"""Kinks by name, in one reading of the program, or the name of what hides them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from jaxnet.gradcheck import check_grads
from jaxnet.gradcheck.leaf import locate_error

X = np.array([-1.0, 0.0, 2.0])


def step(x):
    return 1.0 * (np.asarray(x) > 0)


def test_the_program_is_read_once_a_check(monkeypatch):
    read = []

    def counted(f, *args):
        read.append(f)
        return function(f, *args)

    function = locate_error.signature_function
    monkeypatch.setattr(locate_error, "signature_function", counted)

    def f(x, y, z):
        return sum(jnp.maximum(v, 0).sum() for v in (x, y, z))

    report = check_grads(f, (X, X, X), mode="full")
    assert [leaf.kinks[0].split(",")[0] for leaf in report.leaves] == ["max"] * 3
    assert len(read) == 1
    check_grads(lambda x: jnp.sin(x).sum(), (X,))
    assert len(read) == 1  # no kink, no reading


def rectified(x):
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(lambda v: np.maximum(v, 0), like, x, vmap_method="sequential")


def called_back(x):
    return jnp.sum(rectified(x))


def in_a_while_loop(x):
    _, x = jax.lax.while_loop(
        lambda state: state[0] < 2, lambda state: (state[0] + 1, rectified(state[1])), (0, x)
    )
    return jnp.sum(x)


def in_a_kernel(x):
    def kernel(x_ref, out_ref):
        out_ref[...] = jnp.maximum(x_ref[...], 0)

    like = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jnp.sum(pl.pallas_call(kernel, out_shape=like, interpret=True)(x))


def reduced(x):
    return jnp.sum(
        jax.lax.reduce(jnp.stack([x, 0 * x]), -np.inf, lambda a, b: jnp.where(a > b, a, b), (0,))
    )


def in_numpy(x):
    return float(np.maximum(np.asarray(x), 0).sum())


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (called_back, "pure_callback, test_locate_error.py:"),
        (in_a_while_loop, "pure_callback, test_locate_error.py:"),
        (in_a_kernel, "pallas_call, test_locate_error.py:"),
        (reduced, "reduce, test_locate_error.py:"),
        (in_numpy, "unreadable program (TracerArrayConversionError"),
    ],
)
def test_what_hides_a_kink_is_named(f, name):
    report = check_grads(f, (X,), grad=step)
    assert report.verdict == "KINK"
    assert report.leaves[0].kinks == ()
    (note,) = [note for note in report.notes if "not located" in note]
    assert f"x: the kink is not located, it may hide in {name}" in note
    assert note.endswith("which cannot be read")


def test_a_kink_that_is_found_beside_an_opaque_part_is_named_alone():
    def f(x):
        like = jax.ShapeDtypeStruct((), x.dtype)
        smooth = jax.pure_callback(lambda v: np.sum(v**2), like, x, vmap_method="sequential")
        return smooth + jnp.maximum(x, 0).sum()

    report = check_grads(f, (X,), grad=lambda x: 2 * x + step(X))
    assert report.verdict == "KINK"
    assert report.leaves[0].kinks[0].startswith("max, test_locate_error.py:")
    assert not any("not located" in note for note in report.notes)


def test_a_program_that_can_be_read_but_not_run_is_told(monkeypatch):
    def broken(*_):
        raise RuntimeError("no such primitive")

    monkeypatch.setattr(locate_error, "sites_near", broken)
    report = check_grads(lambda x: jnp.maximum(x, 0).sum(), (X,))
    assert report.verdict == "KINK"
    (note,) = [note for note in report.notes if "not located" in note]
    assert "RuntimeError: no such primitive" in note
