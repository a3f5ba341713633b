"""A trained network: what it takes to score images, and its file."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32, Shaped

from jaxnet.arguments.signatures import checked
from jaxnet.data import Examples, Preprocessing
from jaxnet.data.inputs import as_inputs
from jaxnet.errors import ConfigurationError, DataError, RunFolderError, unknown
from jaxnet.host.tensors import read_tensors, write_tensors
from jaxnet.host.texts import parse_json, to_json
from jaxnet.kernels.form import current_form
from jaxnet.training.learner import Hyperparameters, make_learner
from jaxnet.training.model import Model
from jaxnet.training.numerics import numerics, parameter_dtype
from jaxnet.training.settings import Net, Shapes
from jaxnet.values.identified import Identities

# What a description that is not one of ours gives rise to, here and in JAX.
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError)

SCORED_AT_ONCE = 1000  # images


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A trained net with the preprocessing of its inputs and the names of its classes.

    `net` is one of jaxnet's own or a user's model, `params` and `state` are pytrees of NumPy arrays
    as its init makes them. `hyperparameters` are the floats that only its architecture or model
    has; `settings` are all that it was trained with, for the record.
    """

    net: Net
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    params: Any
    state: Any
    settings: dict[str, Any]
    hyperparameters: Mapping[str, float] = field(default_factory=dict)

    def scores(self, images: Shaped[np.ndarray, "n *shape"]) -> Float[np.ndarray, "n classes"]:
        """Return the scores of raw images `[n, *input_shape]`, uint8 or floating as in training."""
        images = as_inputs(images, self.input_shape, self.preprocessing.pixels)
        is_double = any(leaf.dtype == np.float64 for leaf in jax.tree.leaves(self.params))
        # Products in float32 proper, however coarse they were in training.
        net = replace(self.net, precision="float64" if is_double else "float32")
        at_once = current_form().image_rows if net.row.is_convolutional else SCORED_AT_ONCE
        parts = []
        with numerics(net.precision):
            dtype = parameter_dtype(net)
            given = self._hyperparameters(net)
            for start in range(0, len(images), at_once):
                x = self.preprocessing.apply(images[start : start + at_once]).astype(dtype)
                short = at_once - len(x) if len(images) > at_once else 0  # one shape, one program
                x = np.pad(x, ((0, short), (0, 0)))
                forward = _forward(net, self._shapes)
                out = np.asarray(forward(self.params, self.state, given, jnp.asarray(x)))
                parts.append(out[: at_once - short] if short else out)
        empty = np.zeros((0, len(self.class_names)), np.float64 if is_double else np.float32)
        return np.concatenate(parts) if parts else empty

    def predict(self, images: Shaped[np.ndarray, "n *shape"]) -> Int32[np.ndarray, "n"]:
        """Return the class number of each image."""
        return self.scores(images).argmax(axis=1).astype(np.int32)

    @checked
    def accuracy(self, examples: Examples) -> float:
        """Return the share of examples whose class is predicted."""
        return float((self.predict(examples.images) == examples.labels).mean())

    @checked
    def save(self, path: Path | str, extra: Mapping[str, np.ndarray] | None = None) -> None:
        """Write parameters, state and preprocessing as safetensors, the rest as its metadata.

        An array is named by its path in the tree, such as params/affine_1/w. `extra` arrays are
        written beside them, under their names, and not read by `load`.
        """
        tensors = named_by_path({"params": self.params, "state": self.state})
        for name, array in self.preprocessing.to_arrays().items():
            tensors[f"preprocessing/{name}"] = array
        description = {
            "net": {name: getattr(self.net, name) for name in _DESCRIBED},
            "hyperparameters": dict(self.hyperparameters),
            "input_shape": self.input_shape,
            "class_names": self.class_names,
            "settings": self.settings,
        }
        write_tensors(Path(path), {**tensors, **(extra or {})}, {"jaxnet": to_json(description)})

    @classmethod
    @checked
    def load(cls, path: Path | str, model: Model | None = None, **objects: Any) -> "Network":
        """Read what `save` wrote; RunFolderError or DataError where it cannot be.

        A network of a user's model needs the `model`, and `objects`: the arguments that a
        file cannot hold, such as functions. ConfigurationError names what is missing.
        """
        path = Path(path)
        if not path.is_file():
            raise RunFolderError(f"no weights at {path}: expected a file such as best.safetensors")
        tensors, metadata = read_tensors(path)
        if "jaxnet" not in metadata:
            raise DataError(f"{path} holds weights, but not of a jaxnet network")
        try:
            return cls._from_file(path, parse_json(metadata["jaxnet"]), tensors, model, objects)
        except ConfigurationError:
            raise
        except DAMAGED as error:
            raise DataError(
                f"{path} is not of this network, or is damaged: {str(error)[:300]}"
            ) from error

    @classmethod
    def _from_file(
        cls,
        path: Path,
        description: dict[str, Any],
        tensors: dict[str, np.ndarray],
        model: Model | None,
        objects: dict[str, Any],
    ) -> "Network":
        settings = description["settings"]
        image, names = tuple(description["input_shape"]), tuple(description["class_names"])
        _check_description(image, names, settings)
        described = description["net"]
        net = Net(**{**described, "hidden": tuple(described["hidden"])})
        if "model" in settings:
            net = _with_model(net, path, settings, model, objects)
        parts = {n.partition("/")[2]: a for n, a in tensors.items() if _of(n) == "preprocessing"}
        network = cls(
            net=net,
            input_shape=image,
            class_names=names,
            preprocessing=Preprocessing.from_arrays(parts),
            params={},
            state={},
            settings=settings,
            hyperparameters=description["hyperparameters"],
        )
        pixels = math.prod(image)
        if pixels != network.preprocessing.features:
            raise ValueError(
                f"preprocessing of {network.preprocessing.features} pixels, not {pixels}"
            )
        try:
            params, state = network._trees(tensors)
        except ConfigurationError as error:  # a net that cannot be is a file that was changed
            raise ValueError(str(error)) from error
        return replace(network, params=params, state=state)

    def _trees(self, tensors: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
        """Return parameters and state among the arrays of a file; ValueError for other arrays."""
        net, found = self.net, {n: a for n, a in tensors.items() if _of(n) in ("params", "state")}
        if not all(type(width) is int and 0 < width < 2**31 for width in net.hidden):
            raise ValueError(f"hidden layers of widths {str(net.hidden)[:100]}")
        if net.row.is_chain and len(net.hidden) > len(found):
            raise ValueError(f"{len(net.hidden)} hidden layers, and arrays of fewer")
        with numerics(net.precision):
            learner = make_learner(net, self._hyperparameters(net), self._shapes)
            params, state = jax.eval_shape(learner.init, jax.random.key(0))
        expected = {name: leaf.shape for name, leaf in named_by_path(_both(params, state)).items()}
        floats = all(array.dtype.kind == "f" for array in found.values())
        if not floats or {name: array.shape for name, array in found.items()} != expected:
            raise ValueError("the arrays are not those of the network described")
        both = jax.tree.map_with_path(lambda at, _: found[_path(at)], _both(params, state))
        return both["params"], both["state"]

    def _hyperparameters(self, net: Net) -> Hyperparameters:
        """What the net is built with; the scale of first weights matters no more."""
        values = {"init_scale": 1.0, **self.hyperparameters}
        return Hyperparameters(
            {name: jnp.asarray(value, parameter_dtype(net)) for name, value in values.items()}
        )

    @property
    def _shapes(self) -> Shapes:
        """What the net takes in: images, where its layers or a user's functions ask for them."""
        images = self.net.row.takes_images and self.preprocessing.method != "pca"
        shape = self.input_shape if images else self.preprocessing.output_shape
        return Shapes(shape, len(self.class_names))


# What a file says of a net; a user's model is none of jaxnet's to write down.
_DESCRIBED = ("architecture", "hidden", "activation", "norm", "precision")


@lru_cache(maxsize=64)
def _forward(net: Net, shapes: Shapes) -> Callable[..., Float[jax.Array, "batch classes"]]:
    def forward(params, state, hyperparameters, x):
        return make_learner(net, hyperparameters, shapes).scores(params, state, x)

    return jax.jit(forward)


def _with_model(
    net: Net, path: Path, settings: Mapping[str, Any], model: Model | None, objects: dict[str, Any]
) -> Net:
    """Return the net of a user's model with the static arguments that it was trained with."""
    if model is None:
        raise ConfigurationError(
            f"{path} is of the model {_label(settings['model'])}, whose functions no file holds: "
            f"give it, as in Network.load(path, model)"
        )
    for name in objects:
        if name not in model.defaults:
            raise ConfigurationError(unknown("argument", name, model.defaults))
    identities = Identities()
    arguments = {}
    for name, value in settings.items():
        if name in objects:
            arguments[name] = objects[name]
        elif name in model.defaults and isinstance(value, dict):
            raise ConfigurationError(
                f"{path} was trained with {name} = {value['label']}, which a file does not hold: "
                f"give it, as in Network.load(path, model, {name}=...)"
            )
        elif name in model.defaults and not isinstance(value, float):
            arguments[name] = _tuples(value)
    return replace(
        net,
        model=identities.identify("model", model),
        arguments=tuple((n, identities.identify(n, value)) for n, value in arguments.items()),
    )


def named_by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves of a pytree by their paths in it, such as params/affine_1/w."""
    leaves = jax.tree.leaves_with_path(tree)
    named = {_path(at): leaf if hasattr(leaf, "shape") else np.asarray(leaf) for at, leaf in leaves}
    if len(named) < len(leaves):
        raise ConfigurationError(
            "params: two leaves have the same path once keys are text: give keys of one kind"
        )
    return named


def _both(params: Any, state: Any) -> dict[str, Any]:
    return {"params": params, "state": state}


def _path(at: tuple[Any, ...]) -> str:
    return "/".join(
        str(next(getattr(k, part) for part in ("key", "name", "idx") if hasattr(k, part)))
        for k in at
    )


def _of(name: str) -> str:
    return name.partition("/")[0]


def _label(value: Any) -> str:
    return value["label"] if isinstance(value, dict) else str(value)


def _tuples(value: Any) -> Any:
    """Return lists within lists as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _check_description(
    input_shape: tuple[Any, ...], class_names: tuple[Any, ...], settings: Any
) -> None:
    """Raise ValueError unless a file describes images, classes and settings."""
    sizes = all(type(n) is int and 0 < n < 2**31 for n in input_shape)
    names = all(isinstance(name, str) for name in class_names)
    if not sizes or not names or not input_shape or not class_names:
        raise ValueError("images of no shape, or classes of no name")
    if not isinstance(settings, dict):
        raise ValueError("settings that are no table")
