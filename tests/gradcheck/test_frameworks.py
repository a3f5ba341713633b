"""Losses of other libraries' models and kernels go through the checker as they are."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from jaxnet.gradcheck import check_grads

X, Y = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)


def imported(name):
    """Import a library whose own warnings are no errors here, or skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


@pytest.fixture
def standard_promotion():
    """Other libraries add Python's and NumPy's numbers as they please."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


# Pallas, in interpret mode


def _silu_kernel(x, out):
    out[...] = x[...] / (1 + jnp.exp(-x[...]))


def _silu_backward_kernel(x, dout, out, *, factor):
    s = 1 / (1 + jnp.exp(-x[...]))
    out[...] = dout[...] * (s + factor * x[...] * s * (1 - s))


def _kernel(kernel, *arrays):
    shape = jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)
    block = pl.BlockSpec((2, 3), lambda i: (i, 0))
    call = pl.pallas_call(
        kernel, shape, grid=(2,), in_specs=[block] * len(arrays), out_specs=block, interpret=True
    )
    return call(*arrays)


def silu(factor):
    @jax.custom_vjp
    def f(x):
        return _kernel(_silu_kernel, x)

    def backward(x, dout):
        return (_kernel(functools.partial(_silu_backward_kernel, factor=factor), x, dout),)

    f.defvjp(lambda x: (f(x), x), backward)
    return f


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "PASS"), (0.9, "FAIL")])
def test_a_pallas_kernel_with_a_rule_of_its_own(factor, verdict, dtype):
    report = check_grads(silu(factor), (X.astype(dtype),), reference=jax.nn.silu)
    assert report.verdict == verdict, str(report)
    assert check_grads(silu(factor), (X.astype(dtype),), mode="full").verdict == verdict


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "PASS"), (0.9, "FAIL")])
def test_a_pallas_kernel_inside_a_loss(factor, verdict):
    def loss(w, x):
        return jnp.square(silu(factor)(x @ w)).mean()

    w = 0.5 * Y[:3]
    assert check_grads(loss, (w, X)).verdict == verdict


# flax and equinox, where they are installed


@pytest.mark.parametrize(("spoilt", "verdict"), [(False, "PASS"), (True, "FAIL")])
def test_a_flax_linen_model(standard_promotion, spoilt, verdict):
    linen = imported("flax.linen")
    activation = silu(0.9 if spoilt else 1.0)

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x, *, train):
            x = linen.LayerNorm()(linen.Dense(3)(x))
            x = linen.Dropout(0.3, deterministic=not train)(activation(x))
            x = linen.BatchNorm(use_running_average=not train)(linen.Dense(3)(x))
            return x

    net = Net()
    variables = net.init(jax.random.key(0), X, train=False)

    def loss(params, statistics, x, key):
        y, updated = net.apply(
            {"params": params, "batch_stats": statistics},
            x,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return jnp.square(y - Y).mean(), updated

    args = variables["params"], variables["batch_stats"], X, jax.random.key(1)
    report = check_grads(loss, args, has_aux=True, argnums=(0, 2))
    assert report.verdict == verdict, str(report)
    assert {leaf.path for leaf in report.leaves} >= {"params/Dense_0/kernel", "x"}


@pytest.mark.parametrize(("spoilt", "verdict"), [(False, "PASS"), (True, "FAIL")])
def test_a_flax_nnx_model(standard_promotion, spoilt, verdict):
    nnx = imported("flax.nnx")
    activation = silu(0.9 if spoilt else 1.0)

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.second = nnx.Linear(3, 3, rngs=rngs), nnx.Linear(3, 3, rngs=rngs)

        def __call__(self, x):
            return self.second(activation(self.first(x)))

    structure, params, rest = nnx.split(Net(nnx.Rngs(0)), nnx.Param, ...)

    def loss(params, x):
        return jnp.square(nnx.merge(structure, params, rest)(x) - Y).mean()

    report = check_grads(loss, (params, X))
    assert report.verdict == verdict, str(report)
    assert any("first" in leaf.path and "kernel" in leaf.path for leaf in report.leaves)


@pytest.mark.parametrize(("spoilt", "verdict"), [(False, "PASS"), (True, "FAIL")])
def test_an_equinox_model(standard_promotion, spoilt, verdict):
    eqx = imported("equinox")
    model = eqx.nn.MLP(3, 3, 5, 2, activation=silu_of_a_row(spoilt), key=jax.random.key(0))

    def loss(model, x):
        return jnp.square(jax.vmap(model)(x) - Y).mean()

    report = check_grads(loss, (model, X))  # activation functions are static leaves
    assert report.verdict == verdict, str(report)
    assert "model/layers/0/weight" in {leaf.path for leaf in report.leaves}


def silu_of_a_row(spoilt):
    @jax.custom_vjp
    def f(x):
        return x * jax.nn.sigmoid(x)

    def backward(x, dout):
        s = jax.nn.sigmoid(x)
        return (dout * (s if spoilt else s + x * s * (1 - s)),)

    f.defvjp(lambda x: (f(x), x), backward)
    return f


@pytest.mark.parametrize(("spoilt", "verdict"), [(False, "PASS"), (True, "FAIL")])
def test_an_equinox_gradient_by_hand(standard_promotion, spoilt, verdict):
    eqx = imported("equinox")
    model = eqx.nn.Linear(3, 3, key=jax.random.key(0))

    def loss(model, x):
        return jnp.square(jax.vmap(model)(x) - Y).sum()

    def grad(model, x):
        dy = 2 * (jax.vmap(model)(x) - Y)
        bias = dy.mean(0) if spoilt else dy.sum(0)
        grads = eqx.tree_at(lambda m: (m.weight, m.bias), model, (dy.T @ x, bias))
        return grads, dy @ model.weight

    report = check_grads(loss, (model, X), grad=grad)
    assert report.verdict == verdict, str(report)
    assert [leaf.verdict for leaf in report.leaves] == ["PASS", verdict, "PASS"]
