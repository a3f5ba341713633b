"""Products in mixed precision: what is rounded, what is not, and training with them."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jaxnet
from jaxnet.kernels.form import changed_form
from jaxnet.kernels.products import (
    MAX_UNROLLED_MULTIPLICATIONS,
    MIN_BF16_SIZE,
    product,
    transposed_product,
)
from jaxnet.models import fully_connected, loss_and_grad
from jaxnet.sweeps import grid
from jaxnet.training.numerics import numerics

ROWS, INNER, COLUMNS = 33, 300, 40
MOST_ROWS = MAX_UNROLLED_MULTIPLICATIONS // 64  # of products by 16 terms and 4 columns
FORMS = {"a·b": (product, "ij,jk->ik"), "aᵀ·b": (transposed_product, "ji,jk->ik")}


def operands(name):
    draws = np.random.default_rng(0)
    a = draws.normal(size=(ROWS, INNER) if name == "a·b" else (INNER, ROWS))
    b = draws.normal(size=(INNER, COLUMNS))
    return a.astype(np.float32), b.astype(np.float32)


def rounded(x):
    return x.astype(ml_dtypes.bfloat16).astype(np.float64)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("compiled", [False, True])
def test_mixed_product_rounds_its_operands_and_nothing_else(name, compiled):
    form, indices = FORMS[name]
    a, b = operands(name)
    with changed_form(precision="mixed"):
        got = (jax.jit(form) if compiled else form)(jnp.asarray(a), jnp.asarray(b))
    assert got.dtype == jnp.float32
    got = np.asarray(got)
    # Products of two bfloat16 are exact in float32; the sum of INNER of them has its rounding.
    sizes = np.einsum(indices, abs(rounded(a)), abs(rounded(b)))
    exact = np.einsum(indices, rounded(a), rounded(b))
    assert (abs(got - exact) <= INNER * np.finfo(np.float32).eps * sizes).all()
    assert abs(got - np.einsum(indices, a, b)).max() > 1e-3  # of size √300: it was rounded


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("narrow", ["rows", "inner", "columns"])
def test_narrow_products_of_mixed_precision_round_nothing(name, narrow):
    form, indices = FORMS[name]
    sizes = dict.fromkeys(["rows", "inner", "columns"], MIN_BF16_SIZE) | {narrow: MIN_BF16_SIZE - 1}
    rows, inner, columns = sizes.values()
    draws = np.random.default_rng(0)
    a = draws.normal(size=(rows, inner) if name == "a·b" else (inner, rows)).astype(np.float32)
    b = draws.normal(size=(inner, columns)).astype(np.float32)
    with changed_form(precision="mixed"):
        got = np.asarray(form(jnp.asarray(a), jnp.asarray(b)))
    exact = np.einsum(indices, a, b, dtype=np.float64)
    # Sums of 16 float32 products of normal numbers; bfloat16 would be off by 1e-2.
    np.testing.assert_allclose(got, exact, atol=16 * 6e-8 * 20)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_other_precisions_are_left_alone(name, precision):
    form, indices = FORMS[name]
    a, b = operands(name)
    with numerics(precision):
        got = form(jnp.asarray(a, precision), jnp.asarray(b, precision))
    assert got.dtype == precision
    got = np.asarray(got)
    sizes = np.einsum(indices, abs(a), abs(b), dtype=np.float64)
    error = abs(got - np.einsum(indices, a, b, dtype=np.float64))
    assert (error <= INNER * np.finfo(precision).eps * sizes).all()


def test_networks_side_by_side_have_the_products_of_each():
    draws = np.random.default_rng(1)
    x = jnp.asarray(draws.normal(size=(INNER, ROWS)), jnp.float32)
    dout = jnp.asarray(draws.normal(size=(3, INNER, COLUMNS)), jnp.float32)
    with changed_form(precision="mixed"):
        together = jax.jit(jax.vmap(transposed_product, in_axes=(None, 0)))(x, dout)
        alone = [transposed_product(x, one) for one in dout]
    # The order of a float32 sum of 300 terms, each of size 1.
    np.testing.assert_allclose(together, jnp.stack(alone), atol=300 * 1.2e-7 * 3)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("rows", "has_sums"), [(MOST_ROWS, True), (MOST_ROWS + 1, False)])
def test_small_products_of_many_networks_are_sums(name, rows, has_sums):
    form, indices = FORMS[name]
    draws = np.random.default_rng(2)
    a = draws.normal(size=(9, rows, 16) if name == "a·b" else (9, 16, rows))
    b = draws.normal(size=(9, 16, 4))

    def beside(a, b):
        with changed_form(side_by_side=True, platform="cpu"):
            return form(a, b)

    with jax.enable_x64(True):
        program = jax.make_jaxpr(jax.vmap(beside))(a, b)
        got = jax.jit(jax.vmap(beside))(a, b)
    assert ("dot_general" not in str(program)) == has_sums
    exact = np.stack([np.einsum(indices, *pair) for pair in zip(a, b, strict=True)])
    np.testing.assert_allclose(got, exact, atol=16 * 2.3e-16 * 50)  # 16 products, of size 16 most


def test_small_product_of_one_network_is_a_product():
    program = jax.make_jaxpr(lambda a, b: product(a, b))(jnp.ones((2, 3)), jnp.ones((3, 2)))
    assert "dot_general" in str(program)


def test_manual_gradient_is_that_of_autodiff_but_for_the_rounding_of_cotangents():
    net = fully_connected((64, 32), 10, activation="tanh")  # no kinks, which rounding would cross
    params, state, _ = net.init(jax.random.key(0), (100,))
    x, labels = jax.random.normal(jax.random.key(1), (20, 100)), jnp.arange(20) % 10

    def gradient(precision, backward):
        with numerics(precision):
            run = jax.jit(
                lambda params: loss_and_grad(net, params, state, x, labels, backward=backward)
            )
            return run(params).grads

    manual, autodiff = gradient("mixed", "manual"), gradient("mixed", "autodiff")
    exact = gradient("float32", "manual")
    for leaf, other, reference in zip(
        *(jax.tree.leaves(tree) for tree in (manual, autodiff, exact)), strict=True
    ):
        assert leaf.dtype == jnp.float32
        norm = jnp.linalg.norm(reference)
        # 2⁻⁸ of each operand, through up to three layers; errors of random sign.
        assert jnp.linalg.norm(leaf - other) < 4 * 2**-8 * norm
        assert jnp.linalg.norm(leaf - reference) < 8 * 2**-8 * norm


def test_sweep_over_precisions_trains_float32_weights():
    rates = [1e-3, 1e-2]
    space = grid(precision=["float32", "mixed"], learning_rate=rates, hidden=[[20]])
    result = jaxnet.sweep(space, steps=60, batch_size=50, keep=None)
    losses = {
        (row.settings["precision"], row.settings["learning_rate"]): row.outcome.final_loss
        for row in result.rows
    }
    for rate in rates:
        exact, mixed = losses["float32", rate], losses["mixed", rate]
        assert mixed != exact
        # Operands off by up to 2⁻⁹ change a loss near 1 by thousandths in 60 steps.
        assert mixed == pytest.approx(exact, rel=0.02)
