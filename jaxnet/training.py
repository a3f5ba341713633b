"""The compiled loop: K networks of one structure trained together; one network is K = 1.

A program is three pure functions of arrays. Everything a run depends on (numbers, seed, data,
lengths) is an argument, so other values compile nothing. The minibatch of step t and the dropout
masks are drawn from (seed, t) alone: where a run is cut into calls, or continued after an
interruption, changes no bit of it. The K networks share one seed and its minibatches, or have a
seed each.
"""

import dataclasses
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int32, PRNGKeyArray, UInt8

from jaxnet.configuration import Structure
from jaxnet.dependence import trace
from jaxnet.errors import ConfigurationError
from jaxnet.kernels.form import Form, in_form
from jaxnet.layers.layer import Shape, Tree
from jaxnet.learner import make_learner, width_name
from jaxnet.numerics import numerics, parameter_dtype, program_form, users_code
from jaxnet.optimizers import OPTIMIZERS, clip_by_norm
from jaxnet.pieces import Pieces, piece_of
from jaxnet.schedules import SCHEDULES
from jaxnet.shuffling import shuffled_rows
from jaxnet.stacking import (
    Devices,
    config_axes,
    in_memory_order,
    over_devices,
    over_networks,
    to_stack,
)

Numbers = dict[str, Float[Array, "k"]]

MOST_STEPS = 256
"""Most steps of one call of `advance`: the length of its buffer for losses and accuracies."""

# Images scored at once when accuracy is measured: so many that the scores and activations of all
# networks stay near the processor. For 1,000 nets of 32 units, 100 rows take a quarter of the time
# of 500.
MOST_ROWS, EVALUATION_NUMBERS = 500, 2**22


class DeviceData(NamedTuple):
    """Labelled images on the device. Pixels stay as they are (uint8) until rows are gathered.

    A gathered row becomes (pixels − mean)·scale; None leaves that part out.
    """

    images: UInt8[Array, "examples features"] | Float[Array, "examples features"]
    labels: Int32[Array, "examples"]
    mean: Float[Array, "features"] | None
    scale: Float[Array, "features"] | None

    def gather(self, rows: Int32[Array, "*rows"], dtype: Any) -> Float[Array, "*rows features"]:
        """Return the preprocessed inputs of these rows."""
        x = self.images[rows].astype(dtype)
        leading = (1,) * rows.ndim
        if self.mean is not None:
            x = x - self.mean.reshape(*leading, -1)
        if self.scale is not None:
            x = x * self.scale.reshape(*leading, -1)
        return x


class Member(NamedTuple):
    """One network in training; or K of them, as `jaxnet.stacking` lays them out."""

    params: Tree
    state: Tree
    optimizer_state: Any
    diverged_at: Int32[Array, ""]  # updates made when the loss first was not finite; −1: never
    stopped: Bool[Array, ""]  # by the host: frozen from then on
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
    advance: jax.stages.Wrapped  # -> state, Metrics
    evaluate: Callable[..., tuple[Int32[Array, "k"], Bool[Array, "k"]]]


def _random_key(seed: Array, purpose: int) -> PRNGKeyArray:
    # Named, because with `rbg` keys a network under vmap draws other numbers than one alone.
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose)


_WEIGHTS, _BATCHES, _MASKS = range(3)


def _predict(scores: Float[Array, "*shape classes"]) -> Int32[Array, "*shape"]:
    return lax.argmax(scores, scores.ndim - 1, jnp.int32)


@lru_cache(maxsize=256)
def make_train(
    structure: Structure,
    input_shape: Shape,
    classes: int,
    *,
    shared: bool = True,
    devices: Devices = (),
    platform: str | None = None,
) -> Train:
    """Return the compiled training of K networks of one structure on `[batch, *input_shape]`.

    `shared`: seed is one uint32, and all networks see the same minibatches; else it is [K], and
    each has its own.

    - `init(numbers, seed) -> TrainState`, numbers of shape [K].
    - `advance(state, numbers, seed, data, examples, steps, total_steps) -> state, Metrics`: `steps`
      ≤ MOST_STEPS further updates on the first `examples` rows of data; rows of Metrics beyond
      `steps` are zero. `state` is consumed (donated). An epoch is examples // batch_size steps;
      minibatches are drawn with replacement, as in the course, or shuffled: see `sampling`.
    - `evaluate(state, numbers, data, start, stop) -> correct [K], finite [K]`: how many of the rows
      start, ..., stop − 1 are classified right, and whether every score was finite.

    Several `devices` train K / len(devices) networks each, as `jaxnet.stacking.over_devices` says.
    The functions are in the form for a `platform`, None for that of this process; with another they
    can be traced and lowered, `train.advance.trace(...).lower(lowering_platforms=("cuda",))`.

    A network whose loss is not finite is frozen as it is and its step noted; the others do not
    notice. Call all of it under `numerics(structure.precision)`.
    """
    form = program_form(structure, platform)
    # Nets that differ in how they are trained, not in what they are, share these two programs.
    network = dataclasses.replace(
        structure,
        batch_size=1,
        sampling="with_replacement",
        loss="softmax",
        l2_convention="half",
        schedule="constant",
    )
    return Train(
        _make_init(
            dataclasses.replace(network, pieces=0), input_shape, classes, shared, devices, form
        ),
        _make_advance(structure, input_shape, classes, shared, devices, form),
        _make_evaluate(network, input_shape, classes, devices, form),
    )


def build_optimizer(
    structure: Structure, rate: Array, numbers: dict[str, Array]
) -> optax.GradientTransformation:
    """Return the update rule of a structure at this learning rate; numbers may be traced."""
    if isinstance(structure.optimizer, str):
        return OPTIMIZERS[structure.optimizer].build(rate, numbers)
    rule = structure.optimizer.value
    with users_code(structure.handed_in.values()):
        ready = isinstance(rule, optax.GradientTransformation)
        given = rule if ready else rule(rate, numbers)

    def init(params):
        with users_code(structure.handed_in.values()):
            return given.init(params)

    def update(updates, state, params=None):
        with users_code(structure.handed_in.values()):
            return given.update(updates, state, params)

    return optax.GradientTransformation(init, update)


def check_optimizer(
    structure: Structure, numbers: list[str], input_shape: Shape, classes: int
) -> set[str]:
    """Return which of the numbers a user's optimizer uses, the learning rate among them.

    Nothing is computed or compiled. Raises ConfigurationError if it cannot be traced on this
    network: what is wrong with it shows here, in words, on the host.
    """

    def init(numbers, key):
        return make_learner(structure, numbers, input_shape, classes).init(key)[0]

    def step(rate, numbers, params):
        optimizer = build_optimizer(structure, rate, numbers)
        state = optimizer.init(params)
        return state, optimizer.update(params, state, params)

    with numerics(structure.precision):
        one = jax.ShapeDtypeStruct((), parameter_dtype(structure))
        params = jax.eval_shape(init, dict.fromkeys(numbers, one), jax.random.key(0))
        try:
            of_rate, of_numbers, _ = trace(step, one, dict.fromkeys(numbers, one), params).uses
        except Exception as error:
            assert not isinstance(structure.optimizer, str)
            raise ConfigurationError(
                f"optimizer: a function should take (learning_rate, numbers) and return an optax "
                f"optimizer, such as lambda rate, numbers: optax.lion(rate); "
                f"{structure.optimizer.label} failed with {type(error).__name__}: {error}"
            ) from error
    used = {name for name, counts in of_numbers.items() if counts}
    return used | ({"learning_rate"} if of_rate else set())


@lru_cache(maxsize=256)
def _make_init(
    structure: Structure,
    input_shape: Shape,
    classes: int,
    shared: bool,
    devices: Devices,
    form: Form,
) -> Callable[..., TrainState]:
    def init_member(numbers: dict[str, Array], seed: Array) -> Member:
        learner = make_learner(structure, numbers, input_shape, classes)
        params, state = learner.init(_random_key(seed, _WEIGHTS))
        optimizer_state = build_optimizer(structure, numbers["learning_rate"], numbers).init(params)
        loss = jnp.asarray(jnp.nan, parameter_dtype(structure))
        return Member(params, state, optimizer_state, jnp.int32(-1), jnp.bool(False), loss)

    axes = (0, None if shared else 0)

    def init_stack(numbers: Numbers, seed: Array) -> TrainState:
        return TrainState(
            jnp.int32(0), to_stack(jax.vmap(init_member, in_axes=axes)(numbers, seed))
        )

    def init(numbers: Numbers, seed: Array) -> TrainState:
        made = _axes(jax.eval_shape(init_stack, numbers, seed))
        return over_devices(init_stack, devices, axes, made)(numbers, seed)

    return jax.jit(in_form(form)(init))


def _axes(state: TrainState) -> TrainState:
    """Return the configuration axis of each leaf; None for what all networks share."""
    return TrainState(None, config_axes(state.members))  # pyright: ignore[reportArgumentType]


def _cut(
    structure: Structure, members: Member, numbers: Numbers
) -> tuple[Pieces | None, Member, dict[str, Float[Array, "places"]]]:
    """Return networks and their numbers as they lie side by side within a program."""
    if not structure.pieces:
        return None, members, numbers
    width = width_name(0)
    pieces = Pieces.cut(numbers[width], structure.hidden[0], structure.pieces)
    own = {name: value[pieces.owner] for name, value in numbers.items()}
    return pieces, pieces.split(members), own | {width: pieces.width}


def _make_advance(
    structure: Structure,
    input_shape: Shape,
    classes: int,
    shared: bool,
    devices: Devices,
    form: Form,
) -> jax.stages.Wrapped:
    dtype, learns = parameter_dtype(structure), piece_of(structure)

    def member_step(total, member, numbers, x, labels, key, step, total_steps, steps_per_epoch):
        schedule = SCHEDULES[structure.schedule].build(
            numbers, total_steps=total_steps, steps_per_epoch=steps_per_epoch
        )
        learner = make_learner(learns, numbers, input_shape, classes, total)
        result = learner.loss_and_grad(member.params, member.state, x, labels, key)
        grads = result.grads
        if structure.uses_clipping:
            grads = clip_by_norm(grads, numbers["clip_norm"])
        optimizer = build_optimizer(structure, schedule(step), numbers)
        updates, optimizer_state = optimizer.update(grads, member.optimizer_state, member.params)
        params = jax.tree.map(jnp.add, member.params, updates)

        running, finite = (member.diverged_at < 0) & ~member.stopped, jnp.isfinite(result.loss)
        new = member._replace(
            params=params, state=result.state, optimizer_state=optimizer_state, loss=result.loss
        )
        kept = jax.tree.map(lambda a, b: jnp.where(running & finite, a, b), new, member)
        diverged_at = jnp.where(running & ~finite, step, member.diverged_at)
        accuracy = (_predict(result.scores) == labels).mean(dtype=dtype)
        return kept._replace(diverged_at=diverged_at), Metrics(result.loss, accuracy)

    def draw(seed, step, examples):
        """Return the rows of a minibatch and the key of the masks."""
        key, size = _random_key(seed, _BATCHES), structure.batch_size
        if structure.sampling == "shuffled":
            rows = shuffled_rows(key, step, examples, batch_size=size)
        else:
            key = jax.random.fold_in(key, step)
            rows = jax.random.randint(key, (size,), jnp.int32(0), examples, jnp.int32)
        return rows, jax.random.fold_in(_random_key(seed, _MASKS), step)

    own = None if shared else 0

    def advance_stack(state, numbers, seed, data, examples, steps, total_steps):
        steps_per_epoch = jnp.maximum(examples // structure.batch_size, 1)
        networks = numbers["learning_rate"].shape[0]
        pieces, members, numbers = _cut(structure, state.members, numbers)
        total = None if pieces is None else pieces.total
        axes = config_axes(members)
        stack_step = over_networks(
            partial(member_step, total),
            (axes, 0, own, own, own, *[None] * 3),
            (axes, 0),
            side_by_side=form.side_by_side,
        )
        draw_stack = draw if shared else jax.vmap(draw, in_axes=(0, None, None))

        def body(i, carry):
            (step, members), metrics = carry
            rows, masks = draw_stack(seed, step, examples)
            members, measured = stack_step(
                members,
                numbers,
                data.gather(rows, dtype),
                data.labels[rows],
                masks,
                step,
                total_steps,
                steps_per_epoch,
            )
            if pieces is not None:
                measured = jax.tree.map(pieces.of_networks, measured)
            metrics = jax.tree.map(lambda all, one: all.at[i].set(one), metrics, measured)
            if structure.backward == "manual":  # gradients of autodiff lie in another order
                members = in_memory_order(members)
            return TrainState(step + 1, members), metrics

        empty = jnp.zeros((MOST_STEPS, networks), dtype)
        begin = (TrainState(state.step, members), Metrics(empty, empty))
        state, metrics = lax.fori_loop(jnp.int32(0), steps, body, begin)
        if pieces is not None:
            state = state._replace(members=pieces.join(state.members))
        return state, metrics

    def advance(state, numbers, seed, *common):
        in_axes = (_axes(state), 0, own, *[None] * len(common))
        run = over_devices(advance_stack, devices, in_axes, (_axes(state), 1))
        return run(state, numbers, seed, *common)

    return jax.jit(in_form(form)(advance), donate_argnums=0)


@lru_cache(maxsize=256)
def _make_evaluate(
    structure: Structure, input_shape: Shape, classes: int, devices: Devices, form: Form
) -> Callable[..., tuple[Int32[Array, "k"], Bool[Array, "k"]]]:
    learns = piece_of(structure)

    def member_scores(total, member, numbers, x):
        learner = make_learner(learns, numbers, input_shape, classes, total)
        return learner.scores(member.params, member.state, x)

    def evaluate_stack(state, numbers, data, start, stop):
        networks = numbers["learning_rate"].shape[0]
        pieces, members, numbers = _cut(structure, state.members, numbers)
        total = None if pieces is None else pieces.total
        axes = (config_axes(members), 0, None)
        score_stack = over_networks(
            partial(member_scores, total), axes, 0, side_by_side=form.side_by_side
        )
        at_once = EVALUATION_NUMBERS // (networks * max(classes, *structure.hidden, 1))
        at_once = min(max(at_once, 1), MOST_ROWS)
        if structure.is_convolutional:
            at_once = form.image_rows

        def body(i, carry):
            correct, finite = carry
            rows = start + i * at_once + jnp.arange(at_once, dtype=jnp.int32)
            inside = rows < stop
            rows = jnp.minimum(rows, stop - 1)
            x = data.gather(rows, parameter_dtype(structure))
            scores = score_stack(members, numbers, x)
            if pieces is not None:
                scores = pieces.of_networks(scores)
            hits = (_predict(scores) == data.labels[rows][None, :]) & inside[None, :]
            finite &= jnp.isfinite(scores).all(axis=(1, 2))
            return correct + hits.sum(axis=1, dtype=jnp.int32), finite

        rounds = (stop - start + at_once - 1) // at_once
        none = (jnp.zeros(networks, jnp.int32), jnp.ones(networks, bool))
        return lax.fori_loop(jnp.int32(0), rounds, body, none)

    def evaluate(state, numbers, *common):
        in_axes = (_axes(state), 0, *[None] * len(common))
        run = over_devices(evaluate_stack, devices, in_axes, 0)
        return run(state, numbers, *common)

    return jax.jit(in_form(form)(evaluate))
