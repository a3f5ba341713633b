"""The compiled program: K networks of one structure trained together; one network is K = 1.

It is three pure functions of arrays. The K networks share one seed and its minibatches, or have a
seed each. Other hyperparameters, seeds, data and lengths are other arguments: they compile nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32

from jaxnet.kernels.form import Form, in_form
from jaxnet.training.blocks import Blocks, block_of
from jaxnet.training.layout import (
    ALONE,
    Layout,
    config_axes,
    in_memory_order,
    over_devices,
    over_networks,
    to_stack,
)
from jaxnet.training.learner import Batch, Hyperparameters, make_learner
from jaxnet.training.numerics import parameter_dtype, program_form
from jaxnet.training.settings import Net, Shapes, Structure
from jaxnet.training.step import (
    Clock,
    Member,
    Metrics,
    TrainState,
    draw,
    first,
    guarded,
    predict,
    update,
)
from jaxnet.values.identified import Identified

MOST_STEPS = 256
"""Most steps of one call of `advance`: the length of its buffer for losses and accuracies."""

# Images scored at once when accuracy is measured: so many that the scores and activations of all
# networks stay near the processor. For 1,000 nets of 32 units, 100 rows take a quarter of the time
# of 500.
MOST_ROWS, EVALUATION_NUMBERS = 500, 2**22


class Counts(NamedTuple):
    """How many training examples, steps of this call, and steps of the whole run."""

    examples: Int32[Array, ""]
    steps: Int32[Array, ""]
    total_steps: Int32[Array, ""]

    @classmethod
    def of(cls, examples: int, steps: int, total_steps: int) -> "Counts":
        """Return the counts as arrays: other values compile nothing."""
        return cls(jnp.int32(examples), jnp.int32(steps), jnp.int32(total_steps))


@dataclass(frozen=True)
class Program:
    """What is compiled once: a structure, the shapes it is for, and how networks lie in memory.

    Two programs are equal if one compilation serves both. Call its functions under
    `numerics(structure.precision)`. They are in the form for a `platform` (None: the one that this
    process computes on); for another they can be traced and lowered,
    `program.advance.trace(...).lower(lowering_platforms=("cuda",))`.
    """

    structure: Structure
    shapes: Shapes
    layout: Layout = ALONE
    platform: str | None = None

    def with_layout(self, **changes: Any) -> "Program":
        """Return the program of the same networks, laid out otherwise."""
        return replace(self, layout=replace(self.layout, **changes))

    def of(self, shapes: Shapes) -> "Program":
        """Return the program for inputs of these shapes: preprocessing may change them."""
        return replace(self, shapes=shapes)

    @property
    def init(self) -> Callable[..., TrainState]:
        """`init(hyperparameters, seed) -> TrainState`: K networks before their first step.

        `seed` is a uint32 that all share, or [K] where the layout is not `shared`.
        """
        layout = replace(self.layout, size=0, blocks=0, padded=False)
        net, optimizer = self.structure.net, self.structure.optimizer
        return _make_init(net, optimizer, self.shapes, layout, self._form)

    @property
    def advance(self) -> jax.stages.Wrapped:
        """`advance(state, hyperparameters, seed, data, counts) -> state, Metrics`.

        It makes `counts.steps` ≤ MOST_STEPS updates on the first `counts.examples` rows of data;
        rows of Metrics beyond them are zero. `state` is consumed (donated). An epoch is
        examples // batch_size steps; minibatches are drawn with replacement, as in the course, or
        shuffled: see `sampling`.
        """
        layout = replace(self.layout, size=0)
        return _make_advance(self.structure, self.shapes, layout, self._form)

    @property
    def evaluate(self) -> Callable[..., tuple[Array, Array]]:
        """`evaluate(state, hyperparameters, data, start, stop) -> correct [K], finite [K]`.

        How many of the rows start, ..., stop − 1 are classified right, and whether every score
        was finite.
        """
        layout = replace(self.layout, size=0, shared=True)
        return _make_evaluate(self.structure.net, self.shapes, layout, self._form)

    @property
    def _form(self) -> Form:
        return program_form(self.structure, self.platform)


@lru_cache(maxsize=256)
def _make_init(
    net: Net, optimizer: str | Identified, shapes: Shapes, layout: Layout, form: Form
) -> Callable[..., TrainState]:
    # One seed for all is mapped over by no axis: every network then starts from the same draw.
    axes = (0, None if layout.shared else 0)

    def init_member(hyperparameters: Hyperparameters, seed: Array) -> Member:
        return first(net, optimizer, shapes, hyperparameters, seed)

    def init_stack(hyperparameters: Hyperparameters, seed: Array) -> TrainState:
        members = jax.vmap(init_member, in_axes=axes)(hyperparameters, seed)
        return TrainState(jnp.int32(0), to_stack(members))

    def init(hyperparameters: Hyperparameters, seed: Array) -> TrainState:
        # Where the axis of each leaf is depends on the tree that the update rule keeps.
        made = _axes(jax.eval_shape(init_stack, hyperparameters, seed))
        return over_devices(init_stack, layout.devices, axes, made)(hyperparameters, seed)

    return jax.jit(in_form(form)(init))


def _axes(state: TrainState) -> TrainState:
    """Return the configuration axis of each leaf; None for what all networks share."""
    return TrainState(None, config_axes(state.members))  # pyright: ignore[reportArgumentType]


def _cut(
    net: Net, blocks: int, members: Member, hyperparameters: Hyperparameters
) -> tuple[Blocks | None, Member, Hyperparameters]:
    """Return networks and their hyperparameters as they lie side by side within a program."""
    if not blocks:
        return None, members, hyperparameters
    cut = Blocks.cut(hyperparameters.widths[0], net.hidden[0], blocks)
    values = {name: value[cut.owner] for name, value in hyperparameters.values.items()}
    return cut, cut.split(members), Hyperparameters(values, (cut.width,))


@lru_cache(maxsize=256)
def _make_advance(
    structure: Structure, shapes: Shapes, layout: Layout, form: Form
) -> jax.stages.Wrapped:
    dtype, shared = parameter_dtype(structure), layout.shared
    learns = block_of(structure) if layout.blocks else structure

    def advance_stack(state, hyperparameters, seed, data, counts):
        # Lengths are arrays, so that another number of examples or steps compiles nothing.
        per_epoch = jnp.maximum(counts.examples // structure.batch_size, 1)
        networks = hyperparameters.networks
        # Cut once a call and joined at its end: within the loop the blocks are the networks.
        blocks, members, hyperparameters = _cut(
            structure, layout.blocks, state.members, hyperparameters
        )

        def member_step(member, hyperparameters, batch, clock):
            total = None if blocks is None else blocks.total
            # Every network computes its update; `guarded` decides whether it takes it. A branch
            # would run both sides under vmap.
            found = update(learns, shapes, member, hyperparameters, batch, clock, total=total)
            return guarded(member, found, clock.step), found.metrics

        # With one seed all networks see one minibatch: it is no part of the mapped axis, and their
        # first products are one wide product.
        own = None if shared else 0
        axes = config_axes(members)
        step_stack = over_networks(
            member_step,
            (axes, 0, own, None),
            (axes, 0),
            side_by_side=form.side_by_side,
        )

        def draw_one(seed, step):
            return draw(structure, seed, step, counts.examples)

        draw_stack = draw_one if shared else jax.vmap(draw_one, in_axes=(0, None))

        def body(i, carry):
            (step, members), metrics = carry
            rows, keys = draw_stack(seed, step)
            batch = Batch(data.gather(rows, dtype), data.labels[rows], keys)
            clock = Clock(step, counts.total_steps, per_epoch)
            members, measured = step_stack(members, hyperparameters, batch, clock)
            if blocks is not None:  # all blocks of a network have its loss: one speaks for them
                measured = jax.tree.map(blocks.of_networks, measured)
            # Written in place into a buffer of fixed length: what a loop returns by step would be
            # of a length that the compiler must know.
            metrics = jax.tree.map(lambda all, one: all.at[i].set(one), metrics, measured)
            if structure.backward == "manual":  # gradients of autodiff lie in another order
                members = in_memory_order(members)
            return TrainState(step + 1, members), metrics

        # A loop with a traced end runs any number of steps in one program; nothing is
        # differentiated through it, so that it need not be a scan.
        empty = jnp.zeros((MOST_STEPS, networks), dtype)
        begin = (TrainState(state.step, members), Metrics(empty, empty))
        state, metrics = lax.fori_loop(jnp.int32(0), counts.steps, body, begin)
        if blocks is not None:
            state = state._replace(members=blocks.join(state.members))
        return state, metrics

    def advance(state, hyperparameters, seed, data, counts):
        in_axes = (_axes(state), 0, None if shared else 0, None, None)
        run = over_devices(advance_stack, layout.devices, in_axes, (_axes(state), 1))
        return run(state, hyperparameters, seed, data, counts)

    # The state is consumed: weights and moments are updated where they lie, without a second copy.
    return jax.jit(in_form(form)(advance), donate_argnums=0)


@lru_cache(maxsize=256)
def _make_evaluate(
    net: Net, shapes: Shapes, layout: Layout, form: Form
) -> Callable[..., tuple[Array, Array]]:
    learns = block_of(net) if layout.blocks else net

    def evaluate_stack(state, hyperparameters, data, start, stop):
        networks = hyperparameters.networks
        blocks, members, hyperparameters = _cut(net, layout.blocks, state.members, hyperparameters)

        def member_scores(member, hyperparameters, x):
            total = None if blocks is None else blocks.total
            learner = make_learner(learns, hyperparameters, shapes, total)
            return learner.scores(member.params, member.state, x)

        score_stack = over_networks(
            member_scores,
            (config_axes(members), 0, None),
            0,
            side_by_side=form.side_by_side,
        )
        at_once = EVALUATION_NUMBERS // (networks * max(shapes.classes, *net.hidden, 1))
        at_once = min(max(at_once, 1), MOST_ROWS)
        if net.row.is_convolutional:
            at_once = form.image_rows

        def body(i, carry):
            correct, finite = carry
            rows = start + i * at_once + jnp.arange(at_once, dtype=jnp.int32)
            # The last round is as wide as the others: rows beyond the end repeat the last one, and
            # do not count.
            inside = rows < stop
            rows = jnp.minimum(rows, stop - 1)
            scores = score_stack(members, hyperparameters, data.gather(rows, parameter_dtype(net)))
            if blocks is not None:
                scores = blocks.of_networks(scores)
            hits = (predict(scores) == data.labels[rows][None, :]) & inside[None, :]
            finite &= jnp.isfinite(scores).all(axis=(1, 2))
            return correct + hits.sum(axis=1, dtype=jnp.int32), finite

        rounds = (stop - start + at_once - 1) // at_once
        none = (jnp.zeros(networks, jnp.int32), jnp.ones(networks, bool))
        return lax.fori_loop(jnp.int32(0), rounds, body, none)

    def evaluate(state, hyperparameters, data, start, stop):
        in_axes = (_axes(state), 0, None, None, None)
        run = over_devices(evaluate_stack, layout.devices, in_axes, 0)
        return run(state, hyperparameters, data, start, stop)

    return jax.jit(in_form(form)(evaluate))
