"""What is trained: jaxnet's own networks, or the model of a user, as the same three functions."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnet.compose import Layer, serial
from jaxnet.dependence import Traced, trace
from jaxnet.errors import ConfigurationError
from jaxnet.layers.layer import Shape, Tree
from jaxnet.losses import l2_penalty
from jaxnet.models import LossAndGrad, fully_connected_layers, inception_resnet, loss_and_grad
from jaxnet.training.augmentation import augment
from jaxnet.training.blocks import Total, sum_scores
from jaxnet.training.model import Model
from jaxnet.training.numerics import numerics, parameter_dtype, users_code
from jaxnet.training.settings import Structure


def build_model(
    structure: Structure,
    numbers: dict[str, Any],
    input_shape: Shape,
    classes: int,
    total: Total | None = None,
) -> Layer:
    """Return the network of a structure; `numbers` may be traced.

    `total` sums over the pieces of a network, where it is in pieces (see `jaxnet.training.blocks`).
    """
    if structure.is_convolutional:
        return inception_resnet(
            classes,
            channels=input_shape[-1],
            norm=structure.norm,
            dropout_rate=numbers["dropout"] if structure.uses_dropout else None,
            init=structure.init,
            init_scale=numbers["init_scale"],
            dtype=parameter_dtype(structure),
        )
    widths = None
    if structure.padded:
        widths = [numbers[width_name(i)] for i in range(len(structure.hidden))]
    *layers, head = fully_connected_layers(
        structure.hidden,
        classes,
        activation=structure.activation,
        norm=structure.norm,
        dropout_rate=numbers["dropout"] if structure.uses_dropout else None,
        init=structure.init,
        init_scale=numbers["init_scale"],
        widths=widths,
        dtype=parameter_dtype(structure),
    )
    return serial(*layers, head if total is None else sum_scores(head, total))


def width_name(layer: int) -> str:
    """Return the name, among the numbers, of the true width of a hidden layer held wider."""
    return f"width of hidden layer {layer + 1}"


class Learner(NamedTuple):
    """What is trained, with its numbers bound: pure functions on the parameters of one network."""

    init: Callable[[PRNGKeyArray], tuple[Tree, Tree]]  # -> params, state
    loss_and_grad: Callable[..., LossAndGrad]  # (params, state, x, labels, key)
    scores: Callable[..., Float[Array, "batch classes"]]  # (params, state, x)


def make_learner(
    structure: Structure,
    numbers: dict[str, Any],
    input_shape: Shape,
    classes: int,
    total: Total | None = None,
) -> Learner:
    """Return the learner of a structure: jaxnet's own networks, or the model of a user.

    Or the learner of one piece of a network, if there is a `total` over its pieces.
    """
    if structure.model is not None:
        return _foreign_learner(structure, structure.model.value, numbers, input_shape)
    model = build_model(structure, numbers, input_shape, classes, total)

    def inputs(x):
        return x.reshape(x.shape[0], *input_shape)

    def init(key):
        params, state, _ = model.init(key, input_shape)
        return params, state

    def gradient(params, state, x, labels, key):
        x = inputs(x)
        if structure.uses_augmentation:
            key, own = jax.random.split(key)
            x = augment(own, x, flip=numbers["flip"], shift=numbers["shift"])
        result = loss_and_grad(
            model,
            params,
            state,
            x,
            labels,
            key=key,
            loss=structure.loss,
            label_smoothing=numbers["label_smoothing"],
            l2=numbers["l2"] if total is None else 0.0,
            l2_convention=structure.l2_convention,
            backward=structure.backward,
        )
        if total is None:
            return result
        penalty, of_penalty = l2_penalty(params, numbers["l2"], convention=structure.l2_convention)
        grads = jax.tree.map(jnp.add, result.grads, of_penalty)
        return result._replace(loss=result.loss + total(penalty), grads=grads)

    def scores(params, state, x):
        return model.forward(params, state, inputs(x), key=None, train=False)[0]

    return Learner(init, gradient, scores)


def check_fits_images(
    structure: Structure, numbers: Iterable[str], input_shape: Shape, classes: int
) -> None:
    """Raise ConfigurationError for a net of convolutions that is not for inputs of this shape."""
    with numerics(structure.precision):
        traced = dict.fromkeys(numbers, jnp.asarray(0.5, parameter_dtype(structure)))
        learner = make_learner(structure, traced, input_shape, classes)
        jax.eval_shape(learner.init, jax.random.key(0))


def check_model(
    structure: Structure, numbers: Iterable[str], input_shape: Shape, classes: int
) -> set[str]:
    """Return which of the numbers a user's model uses.

    Nothing is computed or compiled: the functions are traced, on the host. Raises
    ConfigurationError for a model that cannot be trained: what, and why.
    """
    assert structure.model is not None
    model: Model = structure.model.value
    static, batch = structure.static_arguments, structure.batch_size
    dtype = parameter_dtype(structure)
    with numerics(structure.precision), users_code(structure.handed_in.values()):
        traced = dict.fromkeys(numbers, jax.ShapeDtypeStruct((), dtype))
        x = jax.ShapeDtypeStruct((batch, *input_shape), dtype)
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
            shapes = jax.tree.map(jnp.shape, found)
            if not pair or shapes != ((), (batch, classes)):
                raise ConfigurationError(
                    f"model: loss should return a scalar loss and scores of shape "
                    f"{(batch, classes)}, got shapes {shapes} with {mode}"
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
    structure: Structure, model: Model, numbers: dict[str, Any], input_shape: Shape
) -> Learner:
    static = structure.static_arguments

    def images(x):
        return x.reshape(x.shape[0], *input_shape)

    def objective(params, x, labels, key):
        with users_code(structure.handed_in.values()):
            return model.loss(
                params, images(x), labels, key, **model.given_to_loss(static, numbers)
            )

    def init(key):
        with users_code(structure.handed_in.values()):
            return model.init(key, **model.given_to_init(static, numbers)), {}

    def gradient(params, state, x, labels, key):
        # Backward rules of the user's own are called outside of `objective`.
        with users_code(structure.handed_in.values()):
            value_and_grad = jax.value_and_grad(objective, has_aux=True)
            (loss, scores), grads = value_and_grad(params, x, labels, key)
        return LossAndGrad(loss.astype(x.dtype), grads, scores, state)

    def scores(params, state, x):
        labels = jnp.zeros(x.shape[0], jnp.int32)  # scores do not depend on them
        return objective(params, x, labels, None)[1]

    return Learner(init, gradient, scores)
