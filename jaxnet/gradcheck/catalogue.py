"""The table of everything of jaxnet's own to be proved: layers, losses, nets and update rules.

A row checks one thing at random arguments. Rows that differ in dtype and in numbers only (rates,
strengths) trace to one program, so that its compiled code serves them all.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnet import compose, layers, losses, models
from jaxnet.configuration import NORMS
from jaxnet.gradcheck.check import check_grads
from jaxnet.gradcheck.report import FAIL, PASS, LeafReport, Report, worst_of
from jaxnet.layers.layer import Layer, Shape
from jaxnet.optimizers import OPTIMIZERS

DTYPES = ("float64", "float32")
_COMBINATORS = ("serial", "residual", "concat", "identity", "as_custom_vjp", "as_function")


class Row(NamedTuple):
    """One thing to prove: what it is, its options in words, and check(seed) -> Report."""

    kind: str  # layer, loss, composition, network or update rule
    name: str
    options: str
    check: Callable[[int], Report]


def catalogue() -> list[Row]:
    """Return every row. The functions are looked up now: a changed layer is the one checked."""
    return [*_layers(), *_losses(), *_compositions(), *_networks(), *_update_rules()]


def without_row(rows: Sequence[Row]) -> list[str]:
    """Return what jaxnet has and no row proves; empty for the whole catalogue."""
    forward = [name.removesuffix("_forward") for name in layers.__all__ if "_forward" in name]
    needed = [("layer", name) for name in dict.fromkeys([*layers.ACTIVATIONS, *forward])]
    needed += [("loss", name) for name in [*losses.LOSSES, "l2_penalty"]]
    needed += [("composition", name) for name in _COMBINATORS]
    needed += [("network", f"norm {name}") for name in NORMS]
    needed += [("update rule", name) for name in OPTIMIZERS]
    have = {(row.kind, row.name) for row in rows}
    return [f"{kind} {name}" for kind, name in needed if (kind, name) not in have]


# Arguments


def _draw(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    return rng.normal(size=shape).astype(dtype)


def _constant(rng: np.random.Generator, what: Any, dtype: str) -> Any:
    """Return positive numbers of a shape, a number in the dtype, or what else it is."""
    if isinstance(what, tuple):
        return rng.uniform(0.5, 2, what).astype(dtype)
    return np.asarray(what, dtype) if isinstance(what, float) else what


def _trees(layer: Layer, shape: Shape, rng: np.random.Generator, dtype: str) -> tuple[Any, Any]:
    """Return parameters and state as after some training: nothing is exactly 0 or 1."""
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda key: layer.init(key, shape)[:2], key)

    def fill(path, leaf):
        name = path[-1].key
        if name == "running_variance":
            return rng.uniform(0.5, 2, leaf.shape).astype(dtype)
        deviation = np.sqrt(2 / leaf.shape[0]) if name == "w" else 0.3
        mean = 1.0 if name == "scale" else 0.0
        return (mean + deviation * rng.normal(size=leaf.shape)).astype(dtype)

    return jax.tree.map_with_path(fill, shapes)


def _size(shape: Shape) -> str:
    return "×".join(map(str, shape))


# Layers


def _layers() -> Iterator[Row]:
    for batch, inputs, outputs in [
        (3, (4,), 2),
        (5, (7,), 3),
        (1, (4,), 3),
        (3, (1,), 1),
        (2, (3, 2), 5),
    ]:
        shapes = [(batch, *inputs), (int(np.prod(inputs)), outputs), (outputs,)]
        yield from _layer("affine", f"{_size((batch, *inputs))} to {outputs}", shapes)
    for name in layers.ACTIVATIONS:
        for shape in [(3, 5), (1, 1)]:
            yield from _layer(name, _size(shape), [shape])
        yield from _layer(name, "3, one of them 0", [(3,)], zero=True)
    for slope in (0.3, 0.0):
        options = f"4×3, negative_slope {slope}"
        yield from _layer("leaky_relu", options, [(4, 3)], negative_slope=slope)
    for shape, train in itertools.product([(7, 5), (1, 3), (4, 1)], [True, False]):
        wide = shape[1:]
        options = f"{_size(shape)}, {'train' if train else 'test'}"
        yield from _layer("batchnorm", options, [shape, wide, wide], (wide, wide), train=train)
    for shape in [(5, 7), (1, 4), (3, 1)]:
        yield from _layer("layernorm", _size(shape), [shape, shape[1:], shape[1:]])
    for shape, rate in [((5, 7), 0.0), ((5, 7), 0.3), ((5, 7), 1.0), ((1, 1), 0.3)]:
        constants = (rate, jax.random.key(3))
        options = f"{_size(shape)}, rate {rate}, train"
        yield from _layer("dropout", options, [shape], constants, train=True)
    yield from _layer("dropout", "3×5, test", [(3, 5)], (0.3, jax.random.key(3)), train=False)


def _layer(
    name: str,
    options: str,
    shapes: Sequence[Shape],
    constants: Sequence[Any] = (),
    *,
    zero: bool = False,
    **settings: Any,
) -> Iterator[Row]:
    """Give the rows of a forward and backward pair; `zero` sets the first entry to 0."""
    if name in layers.ACTIVATIONS:
        forward, backward = layers.ACTIVATIONS[name]
    else:
        forward, backward = (getattr(layers, f"{name}_{way}") for way in ("forward", "backward"))
    run = jax.jit(functools.partial(forward, **settings))

    def check(dtype: str, seed: int) -> Report:
        rng = np.random.default_rng([seed, 1])
        variables = [_draw(rng, shape, dtype) for shape in shapes]
        if zero:
            variables[0].flat[0] = 0
        held = [_constant(rng, what, dtype) for what in constants]
        argnums = range(len(variables))
        args = (*variables, *held)
        return check_grads(run, args, backward=jax.jit(backward), argnums=argnums, seed=seed)

    for dtype in DTYPES:
        yield Row("layer", name, f"{options}, {dtype}", functools.partial(check, dtype))


# Losses


def _losses() -> Iterator[Row]:
    for name, loss in losses.LOSSES.items():
        smoothed = name in losses.SMOOTHED_LOSSES
        for shape in [(7, 4), (1, 3), (4, 1)]:
            for smoothing in (0.0, 0.1) if smoothed else (0.0,):
                options = f"{_size(shape)}" + (f", label_smoothing {smoothing}" if smoothed else "")
                yield from _loss(name, options, loss, shape, smoothing)
    wider = functools.partial(losses.multiclass_svm, margin=0.5)

    def svm(scores, labels, label_smoothing):
        return wider(scores, labels)

    yield from _loss("svm", "7×4, margin 0.5", svm, (7, 4), 0.0)
    for convention in ("half", "full"):
        for l2 in (0.0, 0.3):
            yield from _penalty(convention, l2)


def _loss(
    name: str, options: str, loss: Callable[..., Any], shape: Shape, smoothing: float
) -> Iterator[Row]:
    value = jax.jit(lambda scores, labels, smoothing: loss(scores, labels, smoothing)[0])
    grad = jax.jit(lambda scores, labels, smoothing: (loss(scores, labels, smoothing)[1],))

    def check(dtype: str, seed: int) -> Report:
        rng = np.random.default_rng([seed, 2])
        labels = rng.integers(0, shape[1], shape[0]).astype(np.int32)
        args = _draw(rng, shape, dtype), labels, np.asarray(smoothing, dtype)
        return check_grads(value, args, grad=grad, argnums=(0,), seed=seed)

    for dtype in DTYPES:
        yield Row("loss", name, f"{options}, {dtype}", functools.partial(check, dtype))


def _penalty(convention: str, l2: float) -> Iterator[Row]:
    penalty = functools.partial(losses.l2_penalty, convention=convention)
    value = jax.jit(lambda params, l2: penalty(params, l2)[0])
    grad = jax.jit(lambda params, l2: (penalty(params, l2)[1],))

    def check(dtype: str, seed: int) -> Report:
        rng = np.random.default_rng([seed, 3])
        shapes = {"affine_1": {"w": (3, 2), "b": (2,)}, "affine_2": {"w": (1, 1), "b": (1,)}}
        params = {
            layer: {leaf: _draw(rng, shape, dtype) for leaf, shape in leaves.items()}
            for layer, leaves in shapes.items()
        }
        args = params, np.asarray(l2, dtype)
        return check_grads(value, args, grad=grad, argnums=(0,), seed=seed)

    for dtype in DTYPES:
        options = f"l2 {l2}, {convention}, {dtype}"
        yield Row("loss", "l2_penalty", options, functools.partial(check, dtype))


# Compositions


def _compositions() -> Iterator[Row]:
    block = compose.serial(
        layers.affine(4), layers.batchnorm(), layers.relu(), layers.dropout(0.3), layers.affine(3)
    )
    parts = "affine – batchnorm – relu – dropout – affine"
    for train in (True, False):
        mode = "train" if train else "test"
        yield from _composition("serial", f"{parts}, 5×3, {mode}", block, (5, 3), train)
    branch = compose.serial(layers.affine(3), layers.tanh())
    mapped = compose.residual(
        compose.serial(layers.layernorm(), layers.affine(2)), layers.affine(2)
    )
    yield from _composition("residual", "identity shortcut, 4×3", compose.residual(branch), (4, 3))
    yield from _composition("residual", "affine shortcut, 1×5", mapped, (1, 5))
    side = compose.concat(layers.affine(1), compose.serial(layers.affine(3), layers.gelu()))
    yield from _composition("concat", "affine beside affine – gelu, 5×2", side, (5, 2))
    nested = compose.serial(
        compose.residual(compose.concat(layers.affine(1), layers.affine(2))), layers.sigmoid()
    )
    yield from _composition("concat", "in a residual in a serial, 3×3", nested, (3, 3))
    yield from _composition("identity", "3×2", compose.identity(), (3, 2))
    yield from _as_custom_vjp()
    yield from _as_function(block)


def _composition(
    name: str, options: str, layer: Layer, shape: Shape, train: bool = True
) -> Iterator[Row]:
    @jax.jit
    def forward(params, x, state, key):
        return layer.forward(params, state, x, key=key, train=train)

    @jax.jit
    def backward(dout, cache):
        dx, dparams = layer.backward(dout, cache)
        return dparams, dx

    def check(dtype: str, seed: int) -> Report:
        args = _layer_arguments(layer, shape, dtype, seed)
        return check_grads(forward, args, backward=backward, argnums=(0, 1), seed=seed)

    for dtype in DTYPES:
        row = f"{options}, {dtype}"
        yield Row("composition", name, row, functools.partial(check, dtype))


def _layer_arguments(layer: Layer, shape: Shape, dtype: str, seed: int) -> tuple:
    rng = np.random.default_rng([seed, 4])
    params, state = _trees(layer, shape[1:], rng, dtype)
    return params, _draw(rng, shape, dtype), state, jax.random.key(seed)


def _as_custom_vjp() -> Iterator[Row]:
    function = jax.jit(compose.as_custom_vjp(layers.affine_forward, layers.affine_backward))

    def plain(x, w, b):
        return x @ w + b[None, :]

    def check(dtype: str, seed: int) -> Report:
        rng = np.random.default_rng([seed, 5])
        args = tuple(_draw(rng, shape, dtype) for shape in [(3, 4), (4, 2), (2,)])
        return check_grads(function, args, reference=jax.jit(plain), seed=seed)

    for dtype in DTYPES:
        row = f"affine, 3×4 to 2, {dtype}"
        yield Row("composition", "as_custom_vjp", row, functools.partial(check, dtype))


def _as_function(layer: Layer) -> Iterator[Row]:
    wrapped = compose.as_function(layer)

    @jax.jit
    def function(params, x, state, key):
        return wrapped(params, state, x, key)[0]

    @jax.jit
    def plain(params, x, state, key):
        return layer.forward(params, state, x, key=key, train=True)[0]

    def check(dtype: str, seed: int) -> Report:
        args = _layer_arguments(layer, (5, 3), dtype, seed)
        return check_grads(function, args, reference=plain, argnums=(0, 1), seed=seed)

    for dtype in DTYPES:
        row = f"a serial with batchnorm and dropout, 5×3, {dtype}"
        yield Row("composition", "as_function", row, functools.partial(check, dtype))


# Networks


class _Net(NamedTuple):
    """The widths of the hidden layers, and what goes with them."""

    hidden: tuple[int, ...]
    activation: str
    loss: str
    convention: str


_NETS = {  # by depth
    2: _Net((5,), "relu", "softmax", "half"),
    3: _Net((5, 3), "tanh", "svm", "full"),
    4: _Net((5, 3, 4), "gelu", "squared_error", "half"),
    5: _Net((5, 3, 4, 3), "leaky_relu", "softmax", "full"),
    6: _Net((5, 3, 4, 3, 5), "sigmoid", "squared_error", "half"),
}


def _networks() -> Iterator[Row]:
    for (depth, net), norm in itertools.product(_NETS.items(), NORMS):
        yield from _network(norm, f"depth {depth}", net, True, (7, 3))
    for norm in NORMS:  # nets in which no dropout layer stands: what rate 0 also computes
        yield from _network(norm, "depth 2", _NETS[2], False, (7, 3))
        yield from _network(norm, "depth 2, batch 1", _NETS[2], False, (1, 3))
    thin = _Net((1, 1), "tanh", "softmax", "half")
    yield from _network("none", "depth 3, width 1", thin, False, (3, 1))


def _network(
    norm: str,
    options: str,
    net: _Net,
    drops: bool,
    shape: Shape,
    classes: int = 3,
) -> Iterator[Row]:
    def build(rate: Any) -> Layer:
        rate = rate if drops else None
        return models.fully_connected(
            net.hidden, classes, activation=net.activation, norm=norm, dropout_rate=rate
        )

    def both(params, state, images, labels, key, rate, l2):
        return models.loss_and_grad(
            build(rate),
            params,
            state,
            images,
            labels,
            key=key,
            loss=net.loss,
            l2=l2,
            l2_convention=net.convention,
            backward="manual",
        )

    value = jax.jit(lambda params, *rest: both(params, *rest).loss)
    grad = jax.jit(lambda params, *rest: (both(params, *rest).grads,))

    def check(dtype: str, rate: float, l2: float, seed: int) -> Report:
        rng = np.random.default_rng([seed, 6])
        params, state = _trees(build(0.0), shape[1:], rng, dtype)
        images = _draw(rng, shape, dtype)
        labels = rng.integers(0, classes, shape[0]).astype(np.int32)
        numbers = np.asarray(rate, dtype), np.asarray(l2, dtype)
        args = params, state, images, labels, jax.random.key(seed), *numbers
        return check_grads(value, args, grad=grad, argnums=(0,), seed=seed)

    for rate, l2, dtype in itertools.product((0.3, 0.0) if drops else (0.0,), (0.0, 0.1), DTYPES):
        parts = [options, net.activation, net.loss]
        parts += [f"dropout {rate}" if drops else "no dropout"]
        parts += [f"l2 {l2} {net.convention}" if l2 else "l2 0", dtype]
        check_row = functools.partial(check, dtype, rate, l2)
        yield Row("network", f"norm {norm}", ", ".join(parts), check_row)


# Update rules: steps of ours, of optax, and of the paper's recurrence in NumPy, written anew here.

_STEPS = 5
_ROUNDINGS = 256  # units of rounding in five steps of averages, their corrections and a root


class _Rule(NamedTuple):
    """Numbers other than the defaults, optax's counterpart, the recurrence: gs, w -> steps."""

    numbers: dict[str, float]
    optax: Callable[..., optax.GradientTransformation]
    plain: Callable[..., list[np.ndarray]]


def _sgd(gs, w, rate):
    return [-rate * g for g in gs]


def _momentum(gs, w, rate, momentum):
    v, steps = 0.0, []
    for g in gs:
        v = momentum * v + g
        steps.append(-rate * v)
    return steps


def _nesterov(gs, w, rate, momentum):
    v, steps = 0.0, []
    for g in gs:
        v = momentum * v + g
        steps.append(-rate * (g + momentum * v))
    return steps


def _rmsprop(gs, w, rate, rms_decay, eps):
    v, steps = 0.0, []
    for g in gs:
        v = rms_decay * v + (1 - rms_decay) * g**2
        steps.append(-rate * g / (np.sqrt(v) + eps))
    return steps


def _adam(gs, w, rate, beta1, beta2, eps, weight_decay=0.0):
    m, v, steps = 0.0, 0.0, []
    for t, g in enumerate(gs, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        steps.append(-rate * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * w))
        w = w + steps[-1]
    return steps


def _adagrad(gs, w, rate, eps):
    s, steps = 0.1, []
    for g in gs:
        s = s + g**2
        steps.append(-rate * g / np.sqrt(s + eps))
    return steps


def _decay_mask(params: Mapping[str, Any]) -> dict[str, bool]:
    return {name: name == "w" for name in params}


_RULES = {
    "sgd": _Rule({}, optax.sgd, _sgd),
    "momentum": _Rule({"momentum": 0.8}, optax.sgd, _momentum),
    "nesterov": _Rule({"momentum": 0.8}, functools.partial(optax.sgd, nesterov=True), _nesterov),
    "rmsprop": _Rule(
        {"rms_decay": 0.75, "eps": 1e-3},
        lambda rate, rms_decay, eps: optax.rmsprop(rate, rms_decay, eps, eps_in_sqrt=False),
        _rmsprop,
    ),
    "adam": _Rule(
        {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3},
        lambda rate, beta1, beta2, eps: optax.adam(rate, beta1, beta2, eps),
        _adam,
    ),
    "adamw": _Rule(
        {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1},
        lambda rate, beta1, beta2, eps, weight_decay: optax.adamw(
            rate, beta1, beta2, eps, weight_decay=weight_decay, mask=_decay_mask
        ),
        _adam,
    ),
    "adagrad": _Rule({"eps": 1e-3}, lambda rate, eps: optax.adagrad(rate, eps=eps), _adagrad),
}


def _update_rules() -> Iterator[Row]:
    for name in OPTIMIZERS:
        if name not in _RULES:
            continue  # reported by without_row
        for shape, dtype in itertools.product([(3, 5), (1, 1)], DTYPES):
            numbers = ", ".join(f"{n} {v:g}" for n, v in _RULES[name].numbers.items())
            options = ", ".join(filter(None, [_size(shape), numbers, dtype]))
            check = functools.partial(_check_rule, name, shape, dtype)
            yield Row("update rule", name, options, check)


def _check_rule(name: str, shape: Shape, dtype: str, seed: int) -> Report:
    """Compare five steps; in the columns of autodiff and numeric stand optax and NumPy."""
    rng, rule = np.random.default_rng([seed, 7]), _RULES[name]
    shapes = {"w": shape, "b": shape[1:]}
    params = {leaf: _draw(rng, size, dtype) for leaf, size in shapes.items()}
    gradients = {leaf: _draw(rng, (_STEPS, *size), dtype) for leaf, size in shapes.items()}
    rate = float(np.asarray(0.1, dtype))
    numbers = {n: float(np.asarray(v, dtype)) for n, v in rule.numbers.items()}
    with jax.enable_x64(dtype == "float64"):
        ours = _steps(OPTIMIZERS[name].build(rate, numbers), params, gradients)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            theirs = _steps(rule.optax(rate, **numbers), params, gradients)
    bound = _ROUNDINGS * float(np.finfo(dtype).eps) / 2
    leaves = []
    for leaf, w in params.items():
        decay = {"weight_decay": 0.0} if "weight_decay" in numbers and leaf != "w" else {}
        plain = rule.plain(
            gradients[leaf].astype(np.float64),
            w.astype(np.float64),
            rate,
            **(numbers | decay),
        )
        versus_optax = _furthest(ours[leaf], theirs[leaf])
        versus_plain = _furthest(ours[leaf], np.stack(plain))
        good = versus_optax <= bound and versus_plain <= bound
        reason = None if good else f"the steps of {name} differ from the recurrence or from optax"
        norm = float(np.linalg.norm(ours[leaf]))
        verdict = PASS if good else FAIL
        numbers_of_leaf = norm, versus_optax, versus_plain, bound
        leaves.append(
            LeafReport(leaf, w.shape, dtype, verdict, *numbers_of_leaf, reason=reason, lines=_STEPS)
        )
    return Report(
        worst_of(*(leaf.verdict for leaf in leaves)),
        tuple(leaves),
        notes=("steps of an update rule: autodiff means optax, numeric a recurrence in NumPy",),
        seed=seed,
        tested=f"the update rule {name}",
    )


def _steps(
    rule: optax.GradientTransformation, params: Mapping[str, Any], gradients: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return the steps [time, ...] by leaf, from fixed gradients."""

    def step(carry, gradient):
        w, state = carry
        taken, state = rule.update(gradient, state, w)
        return (jax.tree.map(jnp.add, w, taken), state), taken

    @jax.jit
    def run(params, gradients):
        return jax.lax.scan(step, (params, rule.init(params)), gradients)[1]

    taken = run(dict(params), dict(gradients))
    return {name: np.asarray(steps, np.float64) for name, steps in taken.items()}


def _furthest(got: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest relative error of a step, NaN counted as infinite."""
    rows = got.reshape(len(got), -1), expected.reshape(len(expected), -1)
    errors = np.linalg.norm(rows[0] - rows[1], axis=1) / np.linalg.norm(rows[1], axis=1)
    return float(np.max(np.where(np.isfinite(errors), errors, np.inf)))
