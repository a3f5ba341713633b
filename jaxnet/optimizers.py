"""Update rules, each written for one array as in its paper and lifted once to trees.

Each factory returns an ``optax.GradientTransformation``: ``init(params) -> state`` and
``update(gradients, state, params) -> (steps, state)``; the new parameters are params + steps.
Notation: g gradient, w parameters, t = 1, 2, ... the number of the step, η the learning rate
(a number, a 0-d array, or a schedule that is asked for step t − 1). Operations are elementwise.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, PyTree
from optax import GradientTransformation

from jaxnet.arguments.setting import Setting
from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.schedules import Number, Schedule, numeric_defaults, scalar

Floats = Float[Array, "..."]


class OptimizerState(NamedTuple):
    """Steps taken, and what the rule remembers: by the paper's letter, a tree like the parameters'.

    The memory has the parameters' dtype, or float32 where theirs is narrower.
    """

    count: Int32[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride] (optax's name)
    memory: dict[str, Any]


@checked
def lift(
    rule: Callable[..., tuple[Array, ...]],
    memory: Mapping[str, Number],
    learning_rate: Number | Schedule,
    **numbers: Number,
) -> GradientTransformation:
    """Return the optimizer on trees whose update of one array is ``rule``.

    ``rule(g, *memory, t=, rate=, **numbers) -> (step, *memory)``, where ``memory`` gives the names
    of the remembered arrays, in order, and their initial value. All that the rule receives is
    strongly typed and of one dtype: the parameters', or float32 where that is narrower (in
    bfloat16, 0.999 is 1 and an average over a thousand steps does not move). The step is returned
    in the parameters' dtype.

    >>> sign_descent = lift(lambda g, *, t, rate: (-rate * jnp.sign(g),), {}, 0.5)
    >>> steps, _ = sign_descent.update(jnp.array([3.0, -4.0]), sign_descent.init(jnp.zeros(2)))
    >>> print(steps)
    [-0.5  0.5]
    """

    def init(params: PyTree) -> OptimizerState:
        def start(value: Number, name: str) -> PyTree:
            def fill(w: Any) -> Floats:
                dtype = _working_dtype(w)
                return jnp.full(jnp.shape(w), scalar(name, value, dtype))

            return jax.tree.map(fill, params)

        trees = {name: start(value, name) for name, value in memory.items()}
        return OptimizerState(jnp.zeros((), jnp.int32), trees)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, OptimizerState]:
        columns = [state.memory[name] for name in memory]
        alike = params if params is not None else next(iter(columns), updates)
        _check_same_tree(updates, alike)
        dtypes = [_working_dtype(leaf) for leaf in jax.tree.leaves(alike)]
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        typed = {
            dtype: {
                "t": (state.count + 1).astype(dtype),
                "rate": scalar("learning_rate", rate, dtype),
                **{name: scalar(name, value, dtype) for name, value in numbers.items()},
            }
            for dtype in dtypes
        }
        gradients, structure = jax.tree.flatten(updates)
        rows = [
            rule(jnp.asarray(g).astype(dtype), *remembered, **typed[dtype])
            for g, dtype, *remembered in zip(
                gradients, dtypes, *map(jax.tree.leaves, columns), strict=True
            )
        ]
        steps, *columns = zip(*rows, strict=True) if rows else [()] * (1 + len(memory))
        outs = jax.tree.leaves(updates if params is None else params)
        steps = [step.astype(jnp.result_type(out)) for step, out in zip(steps, outs, strict=True)]
        trees = [jax.tree.unflatten(structure, column) for column in columns]
        new = OptimizerState(state.count + 1, dict(zip(memory, trees, strict=True)))
        return jax.tree.unflatten(structure, steps), new

    return GradientTransformation(init, update)


def _working_dtype(leaf: Any) -> Any:
    """Return the dtype to compute and remember in: the array's own, float32 if that is narrower."""
    dtype = jnp.result_type(leaf)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ConfigurationError(
            f"parameters must be real floating-point arrays, got one of dtype {dtype} and shape "
            f"{jnp.shape(leaf)}: convert it, or keep it out of the parameters"
        )
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else dtype


def _check_same_tree(gradients: PyTree, params: PyTree) -> None:
    """Raise a ConfigurationError unless both trees have the same structure and leaf shapes."""
    got, expected = jax.tree.structure(gradients), jax.tree.structure(params)
    if got != expected:
        raise ConfigurationError(
            f"the gradients are not a tree like the parameters: expected {expected}, got {got}. "
            f"Return one gradient for each parameter, under the same name."
        )
    pairs = zip(jax.tree.leaves_with_path(params), jax.tree.leaves(gradients), strict=True)
    for (path, w), g in pairs:
        if jnp.shape(g) != jnp.shape(w):
            raise ConfigurationError(
                f"the gradient of params{jax.tree_util.keystr(path)} has shape {jnp.shape(g)}, "
                f"the parameter {jnp.shape(w)}: a gradient has the shape of its parameter"
            )


@checked
def sgd(learning_rate: Number | Schedule) -> GradientTransformation:
    """Gradient descent: w ← w − η·g.

    >>> rule, w = sgd(0.5), jnp.array([1.0, 2.0])
    >>> step, state = rule.update(jnp.array([2.0, -4.0]), rule.init(w), w)
    >>> print(w + step)
    [0. 4.]
    """
    return lift(_sgd, {}, learning_rate)


def _sgd(g: Floats, *, t: Floats, rate: Floats) -> tuple[Floats]:
    return (-rate * g,)


@checked
def momentum(learning_rate: Number | Schedule, momentum: Number = 0.9) -> GradientTransformation:
    """Heavy ball: v ← μ·v + g,  w ← w − η·v.

    μ = ``momentum``; v, shaped as w, starts at 0. The course writes v ← μ·v − η·g, w ← w + v: the
    same iterates while η is constant (its v is −η times ours). When η changes, ours changes all of
    the next step (as torch and optax), the course's only the new gradient's share. No dampening:
    in the long run a step is η·g / (1 − μ). Polyak (1964); Sutskever et al. (2013).

    >>> rule, w = momentum(0.5, 0.5), jnp.array([1.0])
    >>> step, state = rule.update(jnp.array([2.0]), rule.init(w), w)
    >>> step, state = rule.update(jnp.array([2.0]), state, w)
    >>> print(step)
    [-1.5]
    """
    return lift(_momentum, {"v": 0.0}, learning_rate, momentum=momentum)


def _momentum(
    g: Floats, v: Floats, *, t: Floats, rate: Floats, momentum: Floats
) -> tuple[Floats, Floats]:
    v = momentum * v + g
    return -rate * v, v


@checked
def nesterov(learning_rate: Number | Schedule, momentum: Number = 0.9) -> GradientTransformation:
    """Nesterov's momentum: v ← μ·v + g,  w ← w − η·(g + μ·v).

    μ = ``momentum``; v, shaped as w, starts at 0. w is the point looked ahead to, where the
    gradient is taken: the form of the course (same iterates while η is constant), torch and optax.
    Nesterov (1983); Sutskever et al. (2013); Bengio et al. (2012) for this form.

    >>> rule, w = nesterov(0.5, 0.5), jnp.array([1.0])
    >>> step, state = rule.update(jnp.array([2.0]), rule.init(w), w)
    >>> print(step)
    [-1.5]
    """
    return lift(_nesterov, {"v": 0.0}, learning_rate, momentum=momentum)


def _nesterov(
    g: Floats, v: Floats, *, t: Floats, rate: Floats, momentum: Floats
) -> tuple[Floats, Floats]:
    v = momentum * v + g
    return -rate * (g + momentum * v), v


@checked
def rmsprop(
    learning_rate: Number | Schedule, rms_decay: Number = 0.99, eps: Number = 1e-8
) -> GradientTransformation:
    """RMSprop: v ← ρ·v + (1 − ρ)·g²,  w ← w − η·g / (√v + ε).

    ρ = ``rms_decay``, ε = ``eps``; v, shaped as w, starts at 0 and is not corrected for it, so the
    first step is η / √(1 − ρ) = 10·η long. ε stands outside the root, as in the course and torch;
    ``optax.rmsprop`` needs ``eps_in_sqrt=False`` for that and has ρ = 0.9 by default.
    Tieleman & Hinton (2012).

    >>> rule, w = rmsprop(0.01), jnp.array([1.0, 1.0])
    >>> step, state = rule.update(jnp.array([3.0, -0.2]), rule.init(w), w)
    >>> [round(float(element), 4) for element in step]
    [-0.1, 0.1]
    """
    return lift(_rmsprop, {"v": 0.0}, learning_rate, rms_decay=rms_decay, eps=eps)


def _rmsprop(
    g: Floats, v: Floats, *, t: Floats, rate: Floats, rms_decay: Floats, eps: Floats
) -> tuple[Floats, Floats]:
    v = rms_decay * v + (1 - rms_decay) * g * g
    return -rate * g / (jnp.sqrt(v) + eps), v


@checked
def adam(
    learning_rate: Number | Schedule,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
) -> GradientTransformation:
    """Adam: w ← w − η·m̂ / (√v̂ + ε), m̂ and v̂ the corrected averages of g and g².

    m ← β₁·m + (1 − β₁)·g,  m̂ = m / (1 − β₁ᵗ)
    v ← β₂·v + (1 − β₂)·g²,  v̂ = v / (1 − β₂ᵗ)

    β₁, β₂ = ``beta1``, ``beta2``, ε = ``eps``; m and v, shaped as w, start at 0. ε stands outside
    the root and is added after the correction, as in the paper's algorithm 1, the course, torch and
    optax; the paper's shortcut (section 2, and TensorFlow's) adds it before, a larger ε at first.
    1 − β is computed in the dtype of the parameters. Kingma & Ba (2015).

    >>> rule, w = adam(0.1), jnp.array([1.0, 1.0])
    >>> step, state = rule.update(jnp.array([3.0, -0.2]), rule.init(w), w)
    >>> [round(float(element), 4) for element in step]
    [-0.1, 0.1]
    """
    return lift(_adam, {"m": 0.0, "v": 0.0}, learning_rate, beta1=beta1, beta2=beta2, eps=eps)


def _adam(
    g: Floats,
    m: Floats,
    v: Floats,
    *,
    t: Floats,
    rate: Floats,
    beta1: Floats,
    beta2: Floats,
    eps: Floats,
) -> tuple[Floats, Floats, Floats]:
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return -rate * m_hat / (jnp.sqrt(v_hat) + eps), m, v


@checked
def adamw(
    learning_rate: Number | Schedule,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 1e-2,
    *,
    mask: Callable[[PyTree], PyTree] | None = None,
) -> GradientTransformation:
    """Adam with decoupled weight decay: w ← w − η·m̂ / (√v̂ + ε) − η·λ·w.

    λ = ``weight_decay``, the rest as in ``adam``. The decay does not pass through m and v, which is
    what makes it differ from an L2 penalty. It is scaled by the learning rate, as in torch and
    optax; the paper scales it by the schedule only (its λ is our η·λ at the base rate).
    ``mask(params)`` tells the parameters that decay by a tree of booleans; by default
    ``weights_only``: a decayed bias or scale costs fit and does not bound the function's slope, and
    L2 in this project spares them too (``optax.adamw`` decays all). Loshchilov & Hutter (2019).

    >>> rule, params = adamw(0.1, weight_decay=0.5), {"w": jnp.ones(1), "b": jnp.ones(1)}
    >>> step, state = rule.update({"w": jnp.zeros(1), "b": jnp.zeros(1)}, rule.init(params), params)
    >>> print(step["w"], abs(step["b"]))
    [-0.05] [0.]
    """
    plain = adam(learning_rate, beta1, beta2, eps)
    decays = weights_only if mask is None else mask

    def init(params: PyTree) -> Any:
        decays(params)  # a mask that fits nothing is an error now, not a silent absence of decay
        return plain.init(params)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        if params is None:
            raise ConfigurationError(
                "adamw decays the parameters and needs them: update(gradients, state, params)"
            )
        steps, new = plain.update(updates, state, params)
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate

        def shrink(step: Floats, w: Any, decayed: bool) -> Floats:
            if not decayed:
                return step
            dtype = _working_dtype(w)
            shrinkage = scalar("learning_rate", rate, dtype) * scalar(
                "weight_decay", weight_decay, dtype
            )
            return (step.astype(dtype) - shrinkage * jnp.asarray(w).astype(dtype)).astype(
                step.dtype
            )

        return jax.tree.map(shrink, steps, params, decays(params)), new

    return GradientTransformation(init, update)


@checked
def clip_by_norm(gradients: PyTree, norm: Number) -> PyTree:
    """g ← g·min(1, norm/‖g‖₂), ‖g‖₂ over all leaves together. Pascanu, Mikolov and Bengio 2013.

    Unlike a threshold on each leaf or entry this keeps the direction.

    >>> clipped = clip_by_norm({"w": jnp.array([3.0]), "b": jnp.array([4.0])}, 1.0)
    >>> round(float(clipped["w"][0]), 6), round(float(clipped["b"][0]), 6)
    (0.6, 0.8)
    """
    squares = [jnp.square(g.astype(_working_dtype(g))).sum() for g in jax.tree.leaves(gradients)]
    if not squares:
        return gradients
    length = jnp.sqrt(functools.reduce(operator.add, squares))
    limit = scalar("clip_norm", norm, length.dtype)
    factor = jnp.where(length > limit, limit / length, 1)  # not min(1, ·): 0/0 where all are zero
    return jax.tree.map(lambda g: g * factor.astype(g.dtype), gradients)


def weights_only(params: PyTree) -> PyTree[bool]:
    """Return a tree of booleans: true for the parameters whose own key is "w".

    >>> weights_only({"w": jnp.ones(2), "b": jnp.ones(2)})
    {'b': False, 'w': True}
    """

    def is_weight(path: tuple[Any, ...], leaf: Any) -> bool:
        del leaf
        return bool(path) and getattr(path[-1], "key", getattr(path[-1], "name", None)) == "w"

    decays = jax.tree.map_with_path(is_weight, params)
    if jax.tree.leaves(decays) and not any(jax.tree.leaves(decays)):
        raise ConfigurationError(
            'adamw decays the parameters called "w", and there is none in '
            f"{jax.tree.structure(params)}: name the weights so, or pass "
            "mask=lambda params: a tree of True and False"
        )
    return decays


@checked
def adagrad(
    learning_rate: Number | Schedule, eps: Number = 1e-7, *, initial_accumulator: Number = 0.1
) -> GradientTransformation:
    """Adagrad: s ← s + g²,  w ← w − η·g / √(s + ε).

    ε = ``eps``; s, shaped as w, starts at ``initial_accumulator``. ε stands inside the root and s
    starts above 0, as in optax and TensorFlow; the course and torch start at 0 and write √s + ε.
    An element with s = 0 stays where it is. Duchi, Hazan & Singer (2011).

    >>> rule, w = adagrad(0.5, 0.0, initial_accumulator=9.0), jnp.array([1.0])
    >>> step, state = rule.update(jnp.array([4.0]), rule.init(w), w)
    >>> print(step)
    [-0.4]
    """
    return lift(_adagrad, {"s": initial_accumulator}, learning_rate, eps=eps)


def _adagrad(
    g: Floats, s: Floats, *, t: Floats, rate: Floats, eps: Floats
) -> tuple[Floats, Floats]:
    s = s + g * g
    return -rate * g * jnp.where(s > 0, jax.lax.rsqrt(s + eps), 0), s


@dataclass(frozen=True)
class OptimizerRule:
    """An optimizer by name: how to build it, its numeric hyperparameters, and what it promises.

    ``build(learning_rate, hyperparameters)`` reads its own names from the mapping (an absent one
    takes its default) and ignores all others. ``state_arrays`` counts the arrays that it remembers
    of each parameter. ``keeps_zeros``: a parameter of 0 whose gradient is 0 stays 0, unless one of
    the numbers ``above_zero`` is 0 (it would divide 0 by 0); then networks of several widths can be
    padded to one. ``is_elementwise``: it updates each element by itself, so that a layer can be cut
    into blocks. Whoever promises nothing trains each width by itself.
    """

    build: Callable[[Number | Schedule, Mapping[str, Number]], GradientTransformation]
    hyperparameters: dict[str, float]
    state_arrays: int = 0
    keeps_zeros: bool = False
    above_zero: tuple[str, ...] = ()
    is_elementwise: bool = False

    def keeps_zeros_at(self, numbers: Mapping[str, float]) -> bool:
        """Whether zeros stay zero with these hyperparameters."""
        return self.keeps_zeros and all(numbers.get(name, 1) for name in self.above_zero)


def _rule(factory: Callable[..., GradientTransformation], **promises: Any) -> OptimizerRule:
    """Return the table's row for a factory."""
    own = numeric_defaults(factory)

    def build(
        learning_rate: Number | Schedule, hyperparameters: Mapping[str, Number]
    ) -> GradientTransformation:
        numbers = {name: hyperparameters.get(name, default) for name, default in own.items()}
        return factory(learning_rate, **numbers)

    return OptimizerRule(build, own, **promises)


_PLAIN = {"keeps_zeros": True, "is_elementwise": True}

OPTIMIZERS: dict[str, OptimizerRule] = {
    "sgd": _rule(sgd, **_PLAIN),
    "momentum": _rule(momentum, **_PLAIN, state_arrays=1),
    "nesterov": _rule(nesterov, **_PLAIN, state_arrays=1),
    "rmsprop": _rule(rmsprop, **_PLAIN, state_arrays=1, above_zero=("eps",)),
    "adam": _rule(adam, **_PLAIN, state_arrays=2, above_zero=("eps",)),
    "adamw": _rule(adamw, **_PLAIN, state_arrays=2, above_zero=("eps",)),
    "adagrad": _rule(adagrad, **_PLAIN, state_arrays=1, above_zero=("eps",)),
}

HYPERPARAMETERS: dict[str, Setting] = {
    "momentum": Setting("share of the velocity that stays", high=1),
    "rms_decay": Setting("share of the average of squares that stays", high=1),
    "eps": Setting("what is added to the root that is divided by"),
    "beta1": Setting("share of the average of gradients that stays", high=1),
    "beta2": Setting("share of the average of squares that stays", high=1),
    "weight_decay": Setting("strength of the decoupled decay of weights"),
}
"""The numbers that some optimizers have; their defaults stand in the functions."""


def find_optimizer(name: str) -> OptimizerRule:
    """Return ``OPTIMIZERS[name]``, or raise a ConfigurationError that names the near match."""
    if name not in OPTIMIZERS:
        raise ConfigurationError(unknown("optimizer", name, OPTIMIZERS))
    return OPTIMIZERS[name]
