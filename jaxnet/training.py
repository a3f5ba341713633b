"""The compiled loop: K networks of one structure trained together; one network is K = 1.

A program is three pure functions of arrays. Everything a run depends on (numbers, seed, data,
lengths) is an argument, so other values compile nothing. The minibatch of step t and the dropout
masks are drawn from (seed, t) alone: where a run is cut into calls, or continued after an
interruption, changes no bit of it. All K networks share seed and minibatches.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int32, PRNGKeyArray, UInt8

from jaxnet.compose import Layer
from jaxnet.configuration import Structure
from jaxnet.errors import ConfigurationError
from jaxnet.layers.layer import Tree
from jaxnet.models import fully_connected, loss_and_grad
from jaxnet.optimizers import OPTIMIZERS
from jaxnet.schedules import SCHEDULES
from jaxnet.stacking import config_axes, to_stack

Numbers = dict[str, Float[Array, "k"]]

MOST_STEPS = 256
"""Most steps of one call of `advance`: the length of its buffer for losses and accuracies."""

EVALUATION_ROWS = 500  # images scored at once when accuracy is measured: bounds the memory


class DeviceData(NamedTuple):
    """Labelled images on the device. Pixels stay as they are (uint8) until rows are gathered.

    A gathered row becomes (pixels − mean)·scale; None leaves that part out.
    """

    images: UInt8[Array, "examples features"] | Float[Array, "examples features"]
    labels: Int32[Array, "examples"]
    mean: Float[Array, "features"] | None
    scale: Float[Array, "features"] | None

    def gather(self, rows: Int32[Array, "batch"], dtype: Any) -> Float[Array, "batch features"]:
        """Return the preprocessed inputs of these rows."""
        x = self.images[rows].astype(dtype)
        if self.mean is not None:
            x = x - self.mean[None, :]
        if self.scale is not None:
            x = x * self.scale[None, :]
        return x


class Member(NamedTuple):
    """One network in training; or K of them, as `jaxnet.stacking` lays them out."""

    params: Tree
    state: Tree
    optimizer_state: Any
    diverged_at: Int32[Array, ""]  # updates made when the loss first was not finite; −1: never
    loss: Float[Array, ""]  # the last finite loss


class TrainState(NamedTuple):
    """All that a run carries from step to step."""

    step: Int32[Array, ""]
    members: Member


class Metrics(NamedTuple):
    """Of each step of one `advance`: the loss with penalty, and the minibatch's accuracy."""

    loss: Float[Array, "steps k"]
    accuracy: Float[Array, "steps k"]


class Train(NamedTuple):
    """The compiled functions of one structure; see `make_train`."""

    init: Callable[..., TrainState]
    advance: Callable[..., tuple[TrainState, Metrics]]
    evaluate: Callable[..., tuple[Int32[Array, "k"], Bool[Array, "k"]]]


@contextlib.contextmanager
def numerics(precision: str) -> Iterator[None]:
    """Set JAX's global numerics for one precision of `Structure`, whatever they were.

    float32 asks for float32 products by name: GPUs of recent years otherwise use TF32.
    """
    products = {"tf32": "tensorfloat32"}
    with (
        jax.enable_x64(precision == "float64"),
        jax.default_matmul_precision(products.get(precision, "highest")),
    ):
        yield


def parameter_dtype(structure: Structure) -> Any:
    """Return the dtype of weights, sums and losses."""
    return jnp.float64 if structure.precision == "float64" else jnp.float32


def build_model(structure: Structure, numbers: dict[str, Any], classes: int) -> Layer:
    """Return the network of a structure; `numbers` may be traced."""
    return fully_connected(
        structure.hidden,
        classes,
        activation=structure.activation,
        norm=structure.norm,
        dropout_rate=numbers["dropout"] if structure.uses_dropout else None,
        init=structure.init,
        init_scale=numbers["init_scale"],
        dtype=parameter_dtype(structure),
    )


def _random_key(seed: Array, purpose: int) -> PRNGKeyArray:
    # Named, because with `rbg` keys a network under vmap draws other numbers than one alone.
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose)


_WEIGHTS, _BATCHES, _MASKS = range(3)


def _predict(scores: Float[Array, "*shape classes"]) -> Int32[Array, "*shape"]:
    return lax.argmax(scores, scores.ndim - 1, jnp.int32)


@lru_cache(maxsize=256)
def make_train(structure: Structure, features: int, classes: int) -> Train:
    """Return the compiled training of K networks of one structure on `[batch, features]`.

    - `init(numbers, seed) -> TrainState`, numbers of shape [K], seed uint32.
    - `advance(state, numbers, seed, data, examples, steps, total_steps) -> state, Metrics`: `steps`
      ≤ MOST_STEPS further updates on the first `examples` rows of data; rows of Metrics beyond
      `steps` are zero. `state` is consumed (donated). An epoch is examples // batch_size steps;
      minibatches are drawn with replacement, as in the course.
    - `evaluate(state, numbers, data, start, stop) -> correct [K], finite [K]`: how many of the rows
      start, ..., stop − 1 are classified right, and whether every score was finite.

    A network whose loss is not finite is frozen as it is and its step noted; the others do not
    notice. Call all of it under `numerics(structure.precision)`.
    """
    # Nets that differ in how they are trained, not in what they are, share these two programs.
    network = dataclasses.replace(
        structure, batch_size=1, loss="softmax", l2_convention="half", schedule="constant"
    )
    init, evaluate = _make_init(network, features, classes), _make_evaluate(network, classes)
    return Train(init, _make_advance(structure, classes), evaluate)


def _optimizer(
    structure: Structure, rate: Array, numbers: dict[str, Array]
) -> optax.GradientTransformation:
    if not callable(structure.optimizer):
        return OPTIMIZERS[structure.optimizer].build(rate, numbers)
    with jax.numpy_dtype_promotion("standard"):
        given = structure.optimizer(rate, numbers)

    def update(updates, state, params=None):
        # Other people's optimizers mix dtypes in ways that strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            return given.update(updates, state, params)

    return optax.GradientTransformation(given.init, update)


def check_optimizer(structure: Structure, numbers: list[str], features: int, classes: int) -> None:
    """Raise ConfigurationError if a user's optimizer cannot be traced on this network.

    Nothing is computed or compiled: what is wrong with it shows here, in words, on the host.
    """

    def step(numbers, key):
        params, _, _ = build_model(structure, numbers, classes).init(key, (features,))
        optimizer = _optimizer(structure, numbers["learning_rate"], numbers)
        return optimizer.update(params, optimizer.init(params), params)

    with numerics(structure.precision):
        one = jnp.asarray(0.5, parameter_dtype(structure))
        try:
            jax.eval_shape(step, dict.fromkeys(numbers, one), jax.random.key(0))
        except Exception as error:
            name = getattr(structure.optimizer, "__name__", "the optimizer")
            raise ConfigurationError(
                f"optimizer: a function should take (learning_rate, numbers) and return an optax "
                f"optimizer, such as lambda rate, numbers: optax.lion(rate); {name} failed with "
                f"{type(error).__name__}: {error}"
            ) from error


@lru_cache(maxsize=256)
def _make_init(structure: Structure, features: int, classes: int) -> Callable[..., TrainState]:
    def init_member(numbers: dict[str, Array], seed: Array) -> Member:
        model = build_model(structure, numbers, classes)
        params, state, _ = model.init(_random_key(seed, _WEIGHTS), (features,))
        optimizer_state = _optimizer(structure, numbers["learning_rate"], numbers).init(params)
        loss = jnp.asarray(jnp.nan, parameter_dtype(structure))
        return Member(params, state, optimizer_state, jnp.int32(-1), loss)

    def init(numbers: Numbers, seed: Array) -> TrainState:
        members = to_stack(jax.vmap(init_member, in_axes=(0, None))(numbers, seed))
        return TrainState(jnp.int32(0), members)

    return jax.jit(init)


def _make_advance(structure: Structure, classes: int) -> Callable[..., tuple[TrainState, Metrics]]:
    dtype = parameter_dtype(structure)

    def member_step(member, numbers, x, labels, key, step, total_steps, steps_per_epoch):
        schedule = SCHEDULES[structure.schedule].build(
            numbers, total_steps=total_steps, steps_per_epoch=steps_per_epoch
        )
        result = loss_and_grad(
            build_model(structure, numbers, classes),
            member.params,
            member.state,
            x,
            labels,
            key=key,
            loss=structure.loss,
            label_smoothing=numbers["label_smoothing"],
            l2=numbers["l2"],
            l2_convention=structure.l2_convention,
            backward=structure.backward,
        )
        optimizer = _optimizer(structure, schedule(step), numbers)
        updates, optimizer_state = optimizer.update(
            result.grads, member.optimizer_state, member.params
        )
        params = jax.tree.map(jnp.add, member.params, updates)

        running, finite = member.diverged_at < 0, jnp.isfinite(result.loss)
        new = Member(params, result.state, optimizer_state, member.diverged_at, result.loss)
        kept = jax.tree.map(lambda a, b: jnp.where(running & finite, a, b), new, member)
        diverged_at = jnp.where(running & ~finite, step, member.diverged_at)
        accuracy = (_predict(result.scores) == labels).mean(dtype=dtype)
        return kept._replace(diverged_at=diverged_at), Metrics(result.loss, accuracy)

    def advance(state, numbers, seed, data, examples, steps, total_steps):
        steps_per_epoch = jnp.maximum(examples // structure.batch_size, 1)
        batches, masks = _random_key(seed, _BATCHES), _random_key(seed, _MASKS)
        axes = config_axes(state.members)
        stack_step = jax.vmap(member_step, in_axes=(axes, 0, *[None] * 6), out_axes=(axes, 0))

        def body(i, carry):
            (step, members), metrics = carry
            key, shape = jax.random.fold_in(batches, step), (structure.batch_size,)
            rows = jax.random.randint(key, shape, jnp.int32(0), examples, jnp.int32)
            members, measured = stack_step(
                members,
                numbers,
                data.gather(rows, dtype),
                data.labels[rows],
                jax.random.fold_in(masks, step),
                step,
                total_steps,
                steps_per_epoch,
            )
            metrics = jax.tree.map(lambda all, one: all.at[i].set(one), metrics, measured)
            return TrainState(step + 1, members), metrics

        empty = jnp.zeros((MOST_STEPS, numbers["learning_rate"].shape[0]), dtype)
        return lax.fori_loop(jnp.int32(0), steps, body, (state, Metrics(empty, empty)))

    return jax.jit(advance, donate_argnums=0)


@lru_cache(maxsize=256)
def _make_evaluate(
    structure: Structure, classes: int
) -> Callable[..., tuple[Int32[Array, "k"], Bool[Array, "k"]]]:
    def member_scores(member, numbers, x):
        model = build_model(structure, numbers, classes)
        scores, _, _ = model.forward(member.params, member.state, x, key=None, train=False)
        return scores

    def evaluate(state, numbers, data, start, stop):
        networks = numbers["learning_rate"].shape[0]
        score_stack = jax.vmap(member_scores, in_axes=(config_axes(state.members), 0, None))

        def body(i, carry):
            correct, finite = carry
            rows = start + i * EVALUATION_ROWS + jnp.arange(EVALUATION_ROWS, dtype=jnp.int32)
            inside = rows < stop
            rows = jnp.minimum(rows, stop - 1)
            x = data.gather(rows, parameter_dtype(structure))
            scores = score_stack(state.members, numbers, x)
            hits = (_predict(scores) == data.labels[rows][None, :]) & inside[None, :]
            finite &= jnp.isfinite(scores).all(axis=(1, 2))
            return correct + hits.sum(axis=1, dtype=jnp.int32), finite

        pieces = (stop - start + EVALUATION_ROWS - 1) // EVALUATION_ROWS
        none = (jnp.zeros(networks, jnp.int32), jnp.ones(networks, bool))
        return lax.fori_loop(jnp.int32(0), pieces, body, none)

    return jax.jit(evaluate)
