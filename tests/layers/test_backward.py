"""Every hand-written backward against autodiff and finite differences. A new layer is one row."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import layers
from jaxnet.compose import as_custom_vjp

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


class Case(NamedTuple):
    name: str
    forward: Callable
    backward: Callable
    shapes: list[tuple[int, ...]]  # of the differentiable arguments
    constants: tuple[Any, ...] = ()  # shapes of positive arrays, or the arguments themselves
    settings: dict[str, Any] = {}  # noqa: RUF012

    def arguments(self, dtype, seed=0):
        """Return the differentiable arguments, at least 0.1 from every kink, and the others."""
        rng = np.random.default_rng(seed)
        draws = [rng.normal(size=shape) for shape in self.shapes]
        variables = [jnp.asarray(a + 0.1 * np.sign(a), dtype) for a in draws]
        constants = [
            jnp.asarray(rng.uniform(0.5, 2, c), dtype) if isinstance(c, tuple) else c
            for c in self.constants
        ]
        return variables, constants


def affine(batch, features, outputs):
    shapes = [(batch, *features), (int(np.prod(features)), outputs), (outputs,)]
    name = f"affine-{batch}x{features}x{outputs}"
    return Case(name, layers.affine_forward, layers.affine_backward, shapes)


def elementwise(name, shape, **settings):
    forward, backward = layers.ACTIVATIONS[name]
    return Case(f"{name}-{shape}-{settings}", forward, backward, [shape], settings=settings)


def batchnorm(batch, width, **settings):
    pair = layers.batchnorm_forward, layers.batchnorm_backward
    shapes, running = [(batch, width), (width,), (width,)], ((width,), (width,))
    return Case(f"batchnorm-{batch}x{width}-{settings}", *pair, shapes, running, settings)


def layernorm(batch, features, **settings):
    pair = layers.layernorm_forward, layers.layernorm_backward
    shapes = [(batch, features), (features,), (features,)]
    return Case(f"layernorm-{batch}x{features}-{settings}", *pair, shapes, settings=settings)


def first_units(shape, width):
    pair = layers.first_units_forward, layers.first_units_backward
    return Case(f"first_units-{shape}-{width}", *pair, [shape], (width,))


def dropout(shape, rate, train):
    pair = layers.dropout_forward, layers.dropout_backward
    constants = (rate, jax.random.key(3))
    name = f"dropout-{shape}-{rate}-{train}"
    return Case(name, *pair, [shape], constants, {"train": train})


def conv2d(shape, kernel, outputs, **settings):
    shapes = [shape, (*kernel, shape[-1], outputs), (outputs,)]
    pair = layers.conv2d_forward, layers.conv2d_backward
    return Case(f"conv2d-{shape}-{kernel}-{settings}", *pair, shapes, settings=settings)


def pooled(name, shape, **settings):
    pair = (getattr(layers, f"{name}_{way}") for way in ("forward", "backward"))
    return Case(f"{name}-{shape}-{settings}", *pair, [shape], settings=settings)


def spatial(name, shape, constants=(), **settings):
    pair = (getattr(layers, f"{name}_{way}") for way in ("forward", "backward"))
    shapes = [shape, shape[-1:], shape[-1:]]
    return Case(f"{name}-{shape}", *pair, shapes, constants, settings)


OVERLAPPING = {"window": 3, "stride": 1, "padding": "same"}
STRIDED = {"stride": (2, 3), "padding": ((1, 0), (2, 1))}

CASES = [
    affine(5, (7,), 3),
    affine(1, (4,), 2),
    affine(4, (4,), 4),
    affine(3, (1,), 1),
    affine(2, (3, 2, 5), 6),
    *[elementwise(name, shape) for name in layers.ACTIVATIONS for shape in [(5, 7), (1, 1)]],
    elementwise("relu", (2, 3, 4)),
    elementwise("leaky_relu", (4, 3), negative_slope=0.3),
    elementwise("leaky_relu", (4, 3), negative_slope=0.0),
    *[batchnorm(*shape, train=train) for shape in [(7, 5), (4, 1)] for train in (True, False)],
    batchnorm(1, 3, train=True),
    batchnorm(1, 3, train=False),
    batchnorm(2, 3, train=True, eps=0.1, momentum=0.5),
    *[layernorm(*shape) for shape in [(5, 7), (1, 4), (3, 1)]],
    layernorm(4, 3, eps=0.1),
    *[layernorm(3, 6, width=width) for width in (4, 6)],
    *[first_units((3, 5), width) for width in (1, 3, 5)],
    first_units((2, 3, 4), 2),
    *[dropout((5, 7), rate, train) for rate in (0.0, 0.3, 1.0) for train in (True, False)],
    dropout((1, 1), 0.5, True),
    dropout((2, 3, 4), 0.25, True),
    conv2d((2, 5, 6, 3), (2, 4), 2, **STRIDED),
    pooled("max_pool", (2, 5, 6, 2), **OVERLAPPING),
    pooled("average_pool", (2, 5, 6, 2), **OVERLAPPING),
    pooled("global_average_pool", (2, 3, 4, 2)),
    pooled("flatten", (2, 3, 4)),
    spatial("spatial_batchnorm", (2, 3, 2, 4), ((4,), (4,)), train=True),
    spatial("group_norm", (2, 3, 2, 4), groups=2),
]
BY_NAME = {case.name: case for case in CASES}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def as_tuple(gradients):
    return gradients if isinstance(gradients, tuple) else (gradients,)


def errors(got, want, dout):
    """Return the relative error of norms by leaf; a leaf that vanishes is measured by dout's."""
    floor = 1e-3 * np.linalg.norm(dout)
    pairs = list(zip(map(np.asarray, got), map(np.asarray, want), strict=True))
    for a, b in pairs:
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    return [np.linalg.norm(a - b) / max(np.linalg.norm(b), floor) for a, b in pairs]


def autodiff_errors(case, dtype, backward=None):
    backward = backward or case.backward
    variables, constants = case.arguments(dtype)

    @jax.jit
    def both(*variables):
        def plain(*variables):
            return case.forward(*variables, *constants, **case.settings)[0]

        out, cache, *_ = case.forward(*variables, *constants, **case.settings)
        dout = jnp.asarray(np.random.default_rng(1).normal(size=out.shape), dtype)
        got = as_tuple(backward(dout, cache))
        return got, jax.vjp(plain, *variables)[1](dout), dout

    return errors(*both(*variables))


@every_case
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_equals_autodiff(case, dtype):
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        assert max(autodiff_errors(case, dtype)) < TOLERANCE[dtype]


@every_case
def test_equals_central_differences_with_the_cache_across_a_jit_boundary(case):
    with jax.enable_x64(True):
        variables, constants = case.arguments("float64")
        variables = [np.asarray(v) for v in variables]
        forward = jax.jit(lambda *v: case.forward(*v, *constants, **case.settings)[:2])
        out, cache = forward(*variables)
        rng = np.random.default_rng(2)
        dout = rng.normal(size=out.shape)
        gradients = [np.asarray(g) for g in as_tuple(jax.jit(case.backward)(dout, cache))]
        for _ in range(3):
            steps = [1e-5 * rng.normal(size=v.shape) for v in variables]
            ahead = forward(*[v + d for v, d in zip(variables, steps, strict=True)])[0]
            behind = forward(*[v - d for v, d in zip(variables, steps, strict=True)])[0]
            numeric = np.vdot(dout, np.asarray(ahead) - np.asarray(behind)) / 2
            exact = sum(np.vdot(g, d) for g, d in zip(gradients, steps, strict=True))
            scale = sum(np.linalg.norm(g * d) for g, d in zip(gradients, steps, strict=True))
            assert abs(numeric - exact) <= 1e-7 * max(scale, 1e-5)


@every_case
def test_as_custom_vjp_under_jit_vmap_grad(case):
    function = as_custom_vjp(case.forward, case.backward)
    (first, constants), (second, _) = case.arguments("float32", 0), case.arguments("float32", 1)

    def objective(*variables):
        out = function(*variables, *constants, **case.settings)
        out = out[0] if isinstance(out, tuple) else out
        return jnp.sin(out).sum()

    def by_hand(*variables):
        out, cache, *_ = case.forward(*variables, *constants, **case.settings)
        dout = jnp.cos(out)
        return dout, as_tuple(case.backward(dout, cache))

    @jax.jit
    def both_ways(first, second):
        stacks = [jnp.stack(pair) for pair in zip(first, second, strict=True)]
        gradient = jax.grad(objective, argnums=tuple(range(len(stacks))))
        return jax.vmap(gradient)(*stacks), (by_hand(*first), by_hand(*second))

    gradients, members = both_ways(first, second)
    for i, (dout, want) in enumerate(members):
        assert max(errors([np.asarray(g)[i] for g in gradients], want, dout)) < 1e-5


def test_constant_arguments_get_zero_gradients():
    function = as_custom_vjp(layers.dropout_forward, layers.dropout_backward)
    x, key = jnp.ones((3, 4)), jax.random.PRNGKey(0)
    dx, drate = jax.grad(lambda x, r: function(x, r, key, train=True).sum(), (0, 1))(x, 0.5)
    assert dx.sum() > 0
    assert drate == 0
    dkey = jax.grad(lambda k: function(x, 0.5, k, train=True).sum(), allow_int=True)(key)
    assert dkey.dtype == jax.dtypes.float0


# The tester tested: each planted fault must be seen by the comparison that passes the real one.


def scaled(case):
    return lambda dout, cache: tuple(1.001 * g for g in as_tuple(case.backward(dout, cache)))


def affine_dw_transposed(dout, cache):
    dx, dw, db = layers.affine_backward(dout, cache)
    return dx, dw.T, db


def affine_db_dropped(dout, cache):
    dx, dw, db = layers.affine_backward(dout, cache)
    return dx, dw, jnp.zeros_like(db)


def batchnorm_mean_forgotten(dout, cache):
    _, dscale, dshift = layers.batchnorm_backward(dout, cache)
    dcentred = dout - cache.normalized * dscale[None, :] / len(dout)
    return (cache.scale * cache.inverse_deviation)[None, :] * dcentred, dscale, dshift


def batchnorm_variance_forgotten(dout, cache):
    _, dscale, dshift = layers.batchnorm_backward(dout, cache)
    dcentred = dout - dshift[None, :] / len(dout)
    return (cache.scale * cache.inverse_deviation)[None, :] * dcentred, dscale, dshift


def layernorm_over_the_batch(dout, cache):
    x_hat, inverse_deviation, scale, _ = cache
    g = dout * scale[None, :]
    dcentred = g - g.mean(0, keepdims=True) - x_hat * (g * x_hat).mean(0, keepdims=True)
    _, dscale, dshift = layers.layernorm_backward(dout, cache)
    return inverse_deviation * dcentred, dscale, dshift


def layernorm_over_the_padding(dout, cache):
    return layers.layernorm_backward(dout, (*cache[:3], None))


def first_units_unmasked(dout, cache):
    return dout


def dropout_redrawn(dout, cache):
    redrawn = jax.random.bernoulli(jax.random.key(4), 0.7, dout.shape)
    return layers.dropout_backward(dout, (redrawn, cache[1]))


def dropout_unscaled(dout, cache):
    return jnp.where(cache[0], dout, 0)


def leaky_relu_as_relu(dout, cache):
    return jnp.where(cache[0] > 0, dout, 0)


def conv2d_kernel_not_turned(dout, cache):
    turned = cache._replace(w=cache.w[::-1, ::-1])
    return layers.conv2d_backward(dout, turned)[0], *layers.conv2d_backward(dout, cache)[1:]


def conv2d_shifted(dout, cache):
    return layers.conv2d_backward(jnp.roll(dout, 1, axis=2), cache)


def max_pool_to_the_next(dout, cache):
    return layers.max_pool_backward(dout, cache._replace(column=cache.column + 1))


def average_pool_border_counted(dout, cache):
    inside = layers.average_pool_backward(jnp.ones_like(dout), cache)
    return layers.average_pool_backward(dout, cache) * jnp.round(inside, 1)


def group_norm_mean_forgotten(dout, cache):
    x_hat, inverse_deviation, scale = cache
    _, dscale, dshift = layers.group_norm_backward(dout, cache)
    g = (dout * scale.reshape(1, 1, 1, -1)).reshape(x_hat.shape)
    dx = inverse_deviation * (g - x_hat * (g * x_hat).mean(axis=(1, 3), keepdims=True))
    return dx.reshape(dout.shape), dscale, dshift


KINDS = {name.split("-")[0]: name for name in BY_NAME}  # one case of each
FAULTS = [
    *[(name, scaled(BY_NAME[name])) for name in KINDS.values()],
    ("affine-4x(4,)x4", affine_dw_transposed),
    ("affine-5x(7,)x3", affine_db_dropped),
    ("batchnorm-7x5-{'train': True}", batchnorm_mean_forgotten),
    ("batchnorm-7x5-{'train': True}", batchnorm_variance_forgotten),
    ("layernorm-5x7-{}", layernorm_over_the_batch),
    ("layernorm-3x6-{'width': 4}", layernorm_over_the_padding),
    ("first_units-(3, 5)-3", first_units_unmasked),
    ("dropout-(5, 7)-0.3-True", dropout_redrawn),
    ("dropout-(5, 7)-0.3-True", dropout_unscaled),
    ("leaky_relu-(5, 7)-{}", leaky_relu_as_relu),
    ("sigmoid-(5, 7)-{}", layers.tanh_backward),
    ("tanh-(5, 7)-{}", layers.sigmoid_backward),
    (f"conv2d-(2, 5, 6, 3)-(2, 4)-{STRIDED}", conv2d_kernel_not_turned),
    (f"conv2d-(2, 5, 6, 3)-(2, 4)-{STRIDED}", conv2d_shifted),
    (f"max_pool-(2, 5, 6, 2)-{OVERLAPPING}", max_pool_to_the_next),
    (f"average_pool-(2, 5, 6, 2)-{OVERLAPPING}", average_pool_border_counted),
    ("group_norm-(2, 3, 2, 4)", group_norm_mean_forgotten),
]


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_planted_fault_is_caught(name, fault):
    with jax.enable_x64(True):
        assert max(autodiff_errors(BY_NAME[name], "float64", fault)) > 1e-4


def test_wrong_shape_is_caught():
    with pytest.raises(AssertionError):
        errors([np.ones((3, 1))], [np.ones(3)], np.ones(3))
