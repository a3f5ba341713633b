"""What is trained: jaxnet's own networks, or the model of a user, as the same three functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from jaxnet.compose import Layer
from jaxnet.errors import ConfigurationError
from jaxnet.layers.layer import Tree
from jaxnet.losses import l2_penalty
from jaxnet.models import LossAndGrad, loss_and_grad
from jaxnet.training.architectures import Total
from jaxnet.training.augmentation import augment
from jaxnet.training.dependence import Traced, trace
from jaxnet.training.model import Model
from jaxnet.training.numerics import numerics, parameter_dtype, users_code
from jaxnet.training.settings import Configuration, Net, Shapes, Structure


class Hyperparameters(NamedTuple):
    """The numbers that a network is trained with, as arrays: 0-d of one, [K] of K networks."""

    values: Mapping[str, Float[Array, "*k"]]
    widths: tuple[Float[Array, "*k"], ...] = ()  # of the hidden layers, where they are held wider

    @property
    def networks(self) -> int:
        """How many networks they are for."""
        return next(iter(self.values.values())).shape[0]

    @classmethod
    def of(
        cls, configurations: Sequence[Configuration], *, padded: bool = False
    ) -> "Hyperparameters":
        """Return the hyperparameters of K configurations, to train side by side."""
        structure = configurations[0].structure
        dtype = parameter_dtype(structure)
        values = {
            name: jnp.asarray([c.numbers[name] for c in configurations], dtype)
            for name in structure.hyperparameter_names
        }
        layers = range(len(structure.hidden) if padded else 0)
        return cls(
            values,
            tuple(
                jnp.asarray([c.structure.hidden[i] for c in configurations], dtype) for i in layers
            ),
        )

    @classmethod
    def shapes(
        cls, structure: Structure, *, padded: bool = False, networks: tuple[int, ...] = ()
    ) -> "Hyperparameters":
        """Return their shapes, to trace with: one network's (`networks` = ()), or K's (`(K,)`)."""
        one: Any = jax.ShapeDtypeStruct(networks, parameter_dtype(structure))
        values: dict[str, Any] = dict.fromkeys(structure.hyperparameter_names, one)
        return cls(values, (one,) * (len(structure.hidden) if padded else 0))


def build_model(
    net: Net, hyperparameters: Hyperparameters, shapes: Shapes, total: Total | None = None
) -> Layer:
    """Return jaxnet's own network of these settings; the hyperparameters may be traced.

    `total` sums over the blocks of a network, where it is cut (see `jaxnet.training.blocks`).
    """
    values = hyperparameters.values
    return net.row.build(
        net,
        hyperparameters,
        shapes,
        total,
        norm=net.norm,
        dropout_rate=values["dropout"] if net.uses_dropout else None,
        init=net.init,
        init_scale=values["init_scale"],
        dtype=parameter_dtype(net),
    )


class Batch(NamedTuple):
    """One minibatch, and the key of what is drawn for it (masks, augmentation)."""

    x: Float[Array, "batch features"]
    labels: Int32[Array, "batch"]
    key: PRNGKeyArray


class Learner(NamedTuple):
    """A net with its hyperparameters bound: pure functions on the parameters of one network."""

    init: Callable[[PRNGKeyArray], tuple[Tree, Tree]]  # -> params, state
    scores: Callable[..., Float[Array, "batch classes"]]  # (params, state, x)
    loss_and_grad: Callable[..., LossAndGrad]  # (structure, params, state, batch)


def make_learner(
    net: Net, hyperparameters: Hyperparameters, shapes: Shapes, total: Total | None = None
) -> Learner:
    """Return the learner of a net: one of jaxnet's own, or the model of a user.

    With a `total` it is the learner of one block of a network, which sums over all its blocks.
    """
    if net.model is not None:
        return _foreign_learner(net, net.model.value, hyperparameters.values, shapes)
    model, values = build_model(net, hyperparameters, shapes, total), hyperparameters.values

    def inputs(x):
        return x.reshape(x.shape[0], *shapes.input)

    def init(key):
        params, state, _ = model.init(key, shapes.input)
        return params, state

    def gradient(structure, params, state, batch):
        x, labels, key = inputs(batch.x), batch.labels, batch.key
        if structure.uses_augmentation:
            key, own = jax.random.split(key)
            x = augment(own, x, flip=values["flip"], shift=values["shift"])
        result = loss_and_grad(
            model,
            params,
            state,
            x,
            labels,
            key=key,
            loss=structure.loss,
            label_smoothing=values["label_smoothing"],
            l2=values["l2"] if total is None else 0.0,
            l2_convention=structure.l2_convention,
            backward=structure.backward,
        )
        if total is None:
            return result
        penalty, of_penalty = l2_penalty(params, values["l2"], convention=structure.l2_convention)
        grads = jax.tree.map(jnp.add, result.grads, of_penalty)
        return result._replace(loss=result.loss + total(penalty), grads=grads)

    def scores(params, state, x):
        return model.forward(params, state, inputs(x), key=None, train=False)[0]

    return Learner(init, scores, gradient)


def check_fits_images(structure: Structure, shapes: Shapes) -> None:
    """Raise ConfigurationError for a net of convolutions that is not for inputs of this shape."""
    with numerics(structure.precision):
        half = jnp.asarray(0.5, parameter_dtype(structure))
        traced = Hyperparameters(dict.fromkeys(structure.hyperparameter_names, half))
        jax.eval_shape(make_learner(structure, traced, shapes).init, jax.random.key(0))


def check_model(structure: Structure, shapes: Shapes) -> set[str]:
    """Return which of the hyperparameters a user's model uses.

    Nothing is computed or compiled: the functions are traced, on the host. Raises
    ConfigurationError for a model that cannot be trained: what, and why.
    """
    assert structure.model is not None
    model: Model = structure.model.value
    static, batch = structure.static_arguments, structure.batch_size
    dtype = parameter_dtype(structure)
    with numerics(structure.precision), users_code(structure.handed_in.values()):
        traced = Hyperparameters.shapes(structure).values
        x = jax.ShapeDtypeStruct((batch, *shapes.input), dtype)
        labels = jax.ShapeDtypeStruct((batch,), jnp.int32)

        def init(key, numbers):
            return model.init(key, **model.given_to_init(static, numbers))

        def loss(params, x, labels, key, numbers):
            return model.loss(params, x, labels, key, **model.given_to_loss(static, numbers))

        key = jax.random.key(0)
        params, (_, used) = _traced("init(key, ...)", init, key, traced)
        uses = [used]
        for path, leaf in jax.tree.leaves_with_path(params):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ConfigurationError(
                    f"model: init gave {leaf.dtype} at params{jax.tree_util.keystr(path)}: all of "
                    f"params is trained, so its leaves should be floats; keep the rest out of it"
                )
        for mode, given in {"a key": key, "key None, as in evaluation": None}.items():
            arguments = (params, x, labels, given, traced)
            found, (*_, used) = _traced(f"loss with {mode}", loss, *arguments)
            uses.append(used)
            pair = isinstance(found, tuple) and len(found) == 2
            got = jax.tree.map(jnp.shape, found)
            if not pair or got != ((), (batch, shapes.classes)):
                raise ConfigurationError(
                    f"model: loss should return a scalar loss and scores of shape "
                    f"{(batch, shapes.classes)}, got shapes {got} with {mode}"
                )
    return {name for used in uses for name, counts in used.items() if counts}


def _traced(what: str, function: Callable[..., Any], *arguments: Any) -> Traced:
    try:
        return trace(function, *arguments)
    except Exception as error:
        raise ConfigurationError(
            f"model: {what} failed with {type(error).__name__}: {error}"
        ) from error


def _foreign_learner(
    net: Net, model: Model, values: Mapping[str, Array], shapes: Shapes
) -> Learner:
    static, handed_in = net.static_arguments, tuple(net.handed_in.values())

    def images(x):
        return x.reshape(x.shape[0], *shapes.input)

    def objective(params, x, labels, key):
        with users_code(handed_in):
            return model.loss(params, images(x), labels, key, **model.given_to_loss(static, values))

    def init(key):
        with users_code(handed_in):
            return model.init(key, **model.given_to_init(static, values)), {}

    def gradient(structure, params, state, batch):
        del structure  # the loss is the model's own
        # Backward rules of the user's own are called outside of `objective`.
        with users_code(handed_in):
            value_and_grad = jax.value_and_grad(objective, has_aux=True)
            (loss, scores), grads = value_and_grad(params, *batch)
        return LossAndGrad(loss.astype(batch.x.dtype), grads, scores, state)

    def scores(params, state, x):
        labels = jnp.zeros(x.shape[0], jnp.int32)  # scores do not depend on them
        return objective(params, x, labels, None)[1]

    return Learner(init, scores, gradient)
