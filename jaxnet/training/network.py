"""A trained network: what it takes to score images, and its file."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Shaped

from jaxnet.arguments.signatures import checked
from jaxnet.compose import Layer
from jaxnet.data import Examples, Preprocessing
from jaxnet.data.inputs import as_inputs
from jaxnet.errors import ConfigurationError, DataError, RunFolderError, unknown
from jaxnet.host.tensors import read_tensors, write_tensors
from jaxnet.host.texts import parse_json, to_json
from jaxnet.kernels.form import current_form
from jaxnet.layers.layer import Tree
from jaxnet.models import fully_connected, inception_resnet
from jaxnet.training.model import Model
from jaxnet.training.numerics import numerics, users_code
from jaxnet.values.identified import Identities

# What a description that is not one of ours gives rise to, here and in JAX.
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError)

ROWS = 1000  # images scored at once


@dataclass(frozen=True, eq=False)
class Network:
    """A network with the preprocessing of its inputs and the names of its classes.

    `params` and `state` are nested dicts of NumPy arrays, as `fully_connected` or the net that
    `architecture` names makes them. `settings` are those it was trained with, for the record.
    """

    hidden: tuple[int, ...]
    activation: str
    norm: str
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    params: Tree
    state: Tree
    settings: dict[str, Any]
    architecture: str = "fully_connected"

    def scores(self, images: Shaped[np.ndarray, "n *shape"]) -> Float[np.ndarray, "n classes"]:
        """Return the scores of raw images `[n, *input_shape]`, uint8 or floating as in training."""
        dtype = self.params["affine_1"]["w"].dtype
        forward = _forward(
            self.architecture,
            self.input_shape,
            self.hidden,
            len(self.class_names),
            self.activation,
            self.norm,
        )
        return _scores(
            lambda x: forward(self.params, self.state, x),
            images,
            self.input_shape,
            self.preprocessing,
            len(self.class_names),
            dtype,
            ROWS if self.architecture == "fully_connected" else current_form().image_rows,
        )

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

        `extra` arrays are written beside them, under their names, and not read by `load`.
        """
        tensors = {**dict(_flat({"params": self.params, "state": self.state})), **(extra or {})}
        for name, array in self.preprocessing.to_arrays().items():
            tensors[f"preprocessing/{name}"] = array
        description = {
            "architecture": self.architecture,
            "hidden": self.hidden,
            "activation": self.activation,
            "norm": self.norm,
            "input_shape": self.input_shape,
            "class_names": self.class_names,
            "settings": self.settings,
        }
        write_tensors(Path(path), tensors, {"jaxnet": to_json(description)})

    @classmethod
    @checked
    def load(cls, path: Path | str) -> "Network":
        """Read what `save` wrote; RunFolderError or DataError where it cannot be."""
        path = Path(path)
        if not path.is_file():
            raise RunFolderError(f"no weights at {path}: expected a file such as best.safetensors")
        tensors, metadata = read_tensors(path)
        if "jaxnet" not in metadata:
            raise DataError(f"{path} holds weights, but not of a jaxnet network")
        try:
            network = cls._from_file(parse_json(metadata["jaxnet"]), _nested(tensors))
            network._check_shapes()
        except DAMAGED as error:
            raise DataError(
                f"{path} is not of a jaxnet network, or is damaged: {str(error)[:300]}"
            ) from error
        return network

    def _check_shapes(self) -> None:
        """Raise ValueError unless parameters and state are those of the network described."""
        _check_description(self.input_shape, self.class_names, self.settings)
        if not all(type(width) is int and 0 < width < 2**31 for width in self.hidden):
            raise ValueError(f"hidden layers of widths {str(self.hidden)[:100]}")
        if len(self.hidden) > len(self.params):  # before that many layers are traced
            raise ValueError(f"{len(self.hidden)} hidden layers, and arrays of fewer")
        model = _model(
            self.architecture,
            self.input_shape,
            self.hidden,
            len(self.class_names),
            self.activation,
            self.norm,
        )
        pixels = math.prod(self.input_shape)
        if pixels != self.preprocessing.features:
            raise ValueError(f"preprocessing of {self.preprocessing.features} pixels, not {pixels}")
        with numerics("float32"):
            params, state = jax.eval_shape(
                lambda key: model.init(key, self._model_input)[:2], jax.random.key(0)
            )
        expected = jax.tree.map(np.shape, {"params": params, "state": state})
        found = {"params": self.params, "state": self.state}
        floats = all(leaf.dtype.kind == "f" for leaf in jax.tree.leaves(found))
        if not floats or jax.tree.map(np.shape, found) != expected:
            raise ValueError("the arrays are not those of the network described")

    @property
    def _model_input(self) -> tuple[int, ...]:
        flat = self.architecture == "fully_connected"
        return self.preprocessing.output_shape if flat else self.input_shape

    @classmethod
    def _from_file(cls, description: dict[str, Any], trees: Tree) -> "Network":
        return cls(
            hidden=tuple(description["hidden"]),
            activation=description["activation"],
            norm=description["norm"],
            input_shape=tuple(description["input_shape"]),
            class_names=tuple(description["class_names"]),
            preprocessing=Preprocessing.from_arrays(trees["preprocessing"]),
            params=trees["params"],
            state=trees.get("state", {}),
            settings=description["settings"],
            architecture=description.get("architecture", "fully_connected"),
        )


@dataclass(frozen=True, eq=False)
class CustomNetwork:
    """A trained model of a user's: what `Network` is for jaxnet's own.

    `params` is the pytree that its `init` made, as NumPy arrays; `arguments` are the values it was
    made and trained with.
    """

    model: Model
    arguments: dict[str, Any]
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    params: Any
    settings: dict[str, Any]

    def scores(self, images: Shaped[np.ndarray, "n *shape"]) -> Float[np.ndarray, "n classes"]:
        """Return the scores of raw images `[n, *input_shape]`, uint8 or floating as in training."""
        flat = self.preprocessing.method == "pca"
        shape = self.preprocessing.output_shape if flat else self.input_shape
        arguments = self.model.given_to_loss(self.arguments, {})
        handed_in = [Identities().identify("model", one) for one in (self.model, arguments)]

        @jax.jit
        def forward(params, x):
            labels = jnp.zeros(x.shape[0], jnp.int32)  # scores do not depend on them
            x = x.reshape(x.shape[0], *shape)
            with users_code(handed_in):
                return self.model.loss(params, x, labels, None, **arguments)[1]

        return _scores(
            lambda x: forward(self.params, x),
            images,
            self.input_shape,
            self.preprocessing,
            len(self.class_names),
            np.dtype(np.float64 if self.settings["precision"] == "float64" else np.float32),
        )

    def predict(self, images: Shaped[np.ndarray, "n *shape"]) -> Int32[np.ndarray, "n"]:
        """Return the class number of each image."""
        return self.scores(images).argmax(axis=1).astype(np.int32)

    @checked
    def accuracy(self, examples: Examples) -> float:
        """Return the share of examples whose class is predicted."""
        return float((self.predict(examples.images) == examples.labels).mean())

    @checked
    def save(self, path: Path | str, extra: Mapping[str, np.ndarray] | None = None) -> None:
        """Write parameters and preprocessing as safetensors, the settings as its metadata.

        Parameters are named by their path in the tree, such as params['dense']['kernel'].
        """
        leaves = jax.tree.leaves_with_path(self.params)
        tensors = {f"params{jax.tree_util.keystr(at)}": np.asarray(leaf) for at, leaf in leaves}
        for name, array in self.preprocessing.to_arrays().items():
            tensors[f"preprocessing/{name}"] = array
        description = {
            "settings": self.settings,
            "input_shape": self.input_shape,
            "class_names": self.class_names,
        }
        write_tensors(
            Path(path), {**tensors, **(extra or {})}, {"jaxnet model": to_json(description)}
        )

    @classmethod
    @checked
    def load(cls, path: Path | str, model: Model, **objects: Any) -> "CustomNetwork":
        """Read what `save` wrote of this model; RunFolderError or DataError where it cannot be.

        `objects` are the arguments that a file cannot hold, such as functions: ConfigurationError
        names one that is missing.
        """
        path = Path(path)
        if not path.is_file():
            raise RunFolderError(f"no weights at {path}")
        for name in objects:
            if name not in model.defaults:
                raise ConfigurationError(unknown("argument", name, model.defaults))
        tensors, metadata = read_tensors(path)
        try:
            description = parse_json(metadata["jaxnet model"])
            settings = description["settings"]
            stored = {name: value for name, value in settings.items() if name in model.defaults}
            arguments = {
                name: _read_argument(path, name, v)
                for name, v in stored.items()
                if name not in objects
            } | objects
            given = model.given_to_init(arguments, {})
            handed_in = [Identities().identify("model", one) for one in (model, given)]
            with numerics(settings["precision"]), users_code(handed_in):
                shape = jax.eval_shape(lambda key: model.init(key, **given), jax.random.key(0))
            params = jax.tree.map_with_path(
                lambda at, leaf: tensors[f"params{jax.tree_util.keystr(at)}"], shape
            )
            parts = _nested({n: a for n, a in tensors.items() if n.startswith("preprocessing/")})
            names, image = tuple(description["class_names"]), tuple(description["input_shape"])
            _check_description(image, names, settings)
            if [*map(np.shape, jax.tree.leaves(params))] != [
                *map(np.shape, jax.tree.leaves(shape))
            ]:
                raise ValueError("the arrays are not those that its init makes")
            return cls(
                model,
                arguments,
                image,
                names,
                Preprocessing.from_arrays(parts["preprocessing"]),
                params,
                settings,
            )
        except ConfigurationError:
            raise
        except DAMAGED as error:
            raise DataError(
                f"{path} is not of this model, or is damaged: {str(error)[:300]}"
            ) from error


def _read_argument(path: Path, name: str, value: Any) -> Any:
    """Return an argument as its model takes it; ConfigurationError if a file cannot hold it."""
    if isinstance(value, dict):
        raise ConfigurationError(
            f"{path} was trained with {name} = {value['label']}, which a file does not hold: give "
            f"it, as in CustomNetwork.load(path, model, {name}=...)"
        )
    return _tuples(value)


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


def _scores(
    forward: Callable[[Array], Array],
    images: np.ndarray,
    input_shape: tuple[int, ...],
    preprocessing: Preprocessing,
    classes: int,
    dtype: np.dtype,
    at_once: int = ROWS,
) -> np.ndarray:
    """Return forward(preprocessed images), some at a time; an error for what are no such images."""
    images = as_inputs(images, input_shape, preprocessing.pixels)
    parts = []
    with numerics("float64" if dtype == np.float64 else "float32"):
        for start in range(0, len(images), at_once):
            x = preprocessing.apply(images[start : start + at_once]).astype(dtype)
            short = at_once - len(x) if len(images) > at_once else 0  # one shape, one compilation
            x = np.pad(x, ((0, short), (0, 0)))
            out = np.asarray(forward(jnp.asarray(x)))
            parts.append(out[: at_once - short] if short else out)
    return np.concatenate(parts) if parts else np.zeros((0, classes), dtype)


def _model(
    architecture: str,
    image: tuple[int, ...],
    hidden: tuple[int, ...],
    classes: int,
    activation: str,
    norm: str,
) -> Layer:
    if architecture == "inception_resnet":
        return inception_resnet(classes, channels=image[-1], norm=norm)
    if architecture != "fully_connected":
        raise ValueError(f"an architecture that this version does not have, {architecture!r}")
    return fully_connected(hidden, classes, activation=activation, norm=norm)


@cache
def _forward(
    architecture: str,
    image: tuple[int, ...],
    hidden: tuple[int, ...],
    classes: int,
    activation: str,
    norm: str,
):
    def forward(params, state, x):
        model = _model(architecture, image, hidden, classes, activation, norm)
        if architecture != "fully_connected":
            x = x.reshape(len(x), *image)
        scores, _, _ = model.forward(params, state, x, key=None, train=False)
        return scores

    return jax.jit(forward)


def _flat(tree: Tree, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _nested(flat: dict[str, np.ndarray]) -> Tree:
    tree: Tree = {}
    for name, value in flat.items():
        *folders, last = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = value
    return tree


AnyNetwork = Network | CustomNetwork
