"""One update of one network: minibatch, loss, gradient, update rule.

Everything a run depends on (hyperparameters, seed, data, lengths) is an argument, so other values
compile nothing. The minibatch of step t and the dropout masks are drawn from (seed, t) alone: where
a run is cut into calls, or continued after an interruption, changes no bit of it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int32, PRNGKeyArray, UInt8, UInt32

from jaxnet.errors import ConfigurationError
from jaxnet.layers.layer import Tree
from jaxnet.optimizers import OPTIMIZERS, clip_by_norm
from jaxnet.schedules import SCHEDULES
from jaxnet.training.dependence import trace
from jaxnet.training.learner import Batch, Hyperparameters, make_learner
from jaxnet.training.minibatches import shuffled_rows
from jaxnet.training.numerics import numerics, parameter_dtype, users_code
from jaxnet.training.settings import Net, Shapes, Structure
from jaxnet.values.identified import Identified


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
    """One network in training; or K of them, as `jaxnet.training.layout` lays them out."""

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
    """The loss with penalty and the minibatch's accuracy, of one step or of many."""

    loss: Float[Array, "*steps"]
    accuracy: Float[Array, "*steps"]


class Clock(NamedTuple):
    """Where a run is: the step, how many steps it has in all, and how many make an epoch."""

    step: Int32[Array, ""]
    total: Int32[Array, ""]
    per_epoch: Int32[Array, ""]


def random_key(seed: UInt32[Array, ""], purpose: int) -> PRNGKeyArray:
    """Return the key of one purpose in a run of this seed."""
    # The implementation is fixed: under `vmap`, `rbg` keys would give a network other draws than it
    # gets when it trains alone.
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose)


WEIGHTS, BATCHES, MASKS = range(3)


def predict(scores: Float[Array, "*shape classes"]) -> Int32[Array, "*shape"]:
    """Return the class with the highest score."""
    return lax.argmax(scores, scores.ndim - 1, jnp.int32)


def draw(
    structure: Structure, seed: UInt32[Array, ""], step: Int32[Array, ""], examples: Array
) -> tuple[Int32[Array, "batch"], PRNGKeyArray]:
    """Return the rows of the minibatch of a step, and the key of its masks."""
    # Drawn from (seed, step) and nothing else: no state of a generator to store or to lose.
    key, size = random_key(seed, BATCHES), structure.batch_size
    if structure.sampling == "shuffled":
        rows = shuffled_rows(key, step, examples, batch_size=size)
    else:
        key = jax.random.fold_in(key, step)
        rows = jax.random.randint(key, (size,), jnp.int32(0), examples, jnp.int32)
    return rows, jax.random.fold_in(random_key(seed, MASKS), step)


def first(
    net: Net,
    optimizer: str | Identified,
    shapes: Shapes,
    hyperparameters: Hyperparameters,
    seed: UInt32[Array, ""],
) -> Member:
    """Return a network before its first step."""
    params, state = make_learner(net, hyperparameters, shapes).init(random_key(seed, WEIGHTS))
    values = hyperparameters.values
    rule = build_optimizer(optimizer, values["learning_rate"], values)
    loss = jnp.asarray(jnp.nan, parameter_dtype(net))
    return Member(params, state, rule.init(params), jnp.int32(-1), jnp.bool(False), loss)


class Update(NamedTuple):
    """What one step computes before it is known whether the network goes on."""

    member: Member
    metrics: Metrics
    gradient: Tree
    change: Any  # what was added to the parameters


def update(
    structure: Structure,
    shapes: Shapes,
    member: Member,
    hyperparameters: Hyperparameters,
    batch: Batch,
    clock: Clock,
    *,
    total: Any = None,
) -> Update:
    """Return the network after one update on a minibatch, and what made it."""
    values = hyperparameters.values
    schedule = SCHEDULES[structure.schedule].build(
        values, total_steps=clock.total, steps_per_epoch=clock.per_epoch
    )
    learner = make_learner(structure, hyperparameters, shapes, total)
    result = learner.loss_and_grad(structure, member.params, member.state, batch)
    gradient = result.grads
    if structure.uses_clipping:
        gradient = clip_by_norm(gradient, values["clip_norm"])
    rule = build_optimizer(structure.optimizer, schedule(clock.step), values)
    change, optimizer_state = rule.update(gradient, member.optimizer_state, member.params)
    params = jax.tree.map(jnp.add, member.params, change)
    new = member._replace(
        params=params, state=result.state, optimizer_state=optimizer_state, loss=result.loss
    )
    hits = predict(result.scores) == batch.labels
    accuracy = hits.mean(dtype=parameter_dtype(structure))
    return Update(new, Metrics(result.loss, accuracy), gradient, change)


def guarded(member: Member, update: Update, step: Int32[Array, ""]) -> Member:
    """Return the network after an update; as it was if it has ended, or if its loss is not finite.

    A network that diverges is frozen with the step noted; others side by side do not notice.
    """
    # The loss is of the weights before the update. Where it is not finite they stay as they are:
    # the network is left with the last good ones.
    running, finite = (member.diverged_at < 0) & ~member.stopped, jnp.isfinite(update.metrics.loss)
    goes_on = running & finite
    after = jax.tree.map(lambda new, old: jnp.where(goes_on, new, old), update.member, member)
    return after._replace(diverged_at=jnp.where(running & ~finite, step, member.diverged_at))


def build_optimizer(
    optimizer: str | Identified, rate: Array, values: Mapping[str, Array]
) -> optax.GradientTransformation:
    """Return the update rule at this learning rate; hyperparameters may be traced."""
    if isinstance(optimizer, str):
        return OPTIMIZERS[optimizer].build(rate, dict(values))
    rule = optimizer.value
    with users_code([optimizer]):
        ready = isinstance(rule, optax.GradientTransformation)
        given = rule if ready else rule(rate, dict(values))

    def init(params):
        with users_code([optimizer]):
            return given.init(params)

    def update(updates, state, params=None):
        with users_code([optimizer]):
            return given.update(updates, state, params)

    return optax.GradientTransformation(init, update)


def check_optimizer(structure: Structure, shapes: Shapes) -> set[str]:
    """Return which of the hyperparameters a user's optimizer uses, the learning rate among them.

    Nothing is computed or compiled. Raises ConfigurationError if it cannot be traced on this
    network: what is wrong with it shows here, in words, on the host.
    """

    def init(hyperparameters, key):
        return make_learner(structure, hyperparameters, shapes).init(key)[0]

    def step(rate, values, params):
        optimizer = build_optimizer(structure.optimizer, rate, values)
        state = optimizer.init(params)
        return state, optimizer.update(params, state, params)

    with numerics(structure.precision):
        one = jax.ShapeDtypeStruct((), parameter_dtype(structure))
        hyperparameters = Hyperparameters.shapes(structure)
        params = jax.eval_shape(init, hyperparameters, jax.random.key(0))
        try:
            of_rate, of_values, _ = trace(step, one, hyperparameters.values, params).uses
        except Exception as error:
            assert not isinstance(structure.optimizer, str)
            raise ConfigurationError(
                f"optimizer: a function should take (learning_rate, numbers) and return an optax "
                f"optimizer, such as lambda rate, numbers: optax.lion(rate); "
                f"{structure.optimizer.label} failed with {type(error).__name__}: {error}"
            ) from error
    used = {name for name, counts in of_values.items() if counts}
    return used | ({"learning_rate"} if of_rate else set())
