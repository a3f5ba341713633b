"""The data of a sweep on the device, with the preprocessing that a structure asks for."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.data import DataSet, Preprocessing, Splits, fit
from jaxnet.training.layout import put_on
from jaxnet.training.numerics import numerics, parameter_dtype
from jaxnet.training.settings import Shapes, Structure
from jaxnet.training.step import DeviceData


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """Training rows, then validation rows, on the device, and the preprocessing they go through.

    `shapes.input` is the shape of one preprocessed image: (features,), or as the image where the
    structure takes images. Each of the first so many `devices` of the process has all of it.
    """

    device: DeviceData
    train: int
    validation: int
    shapes: Shapes
    preprocessing: Preprocessing
    devices: int = 1

    def on(self, devices: int) -> "PreparedData":
        """Return the same data on each of so many devices."""
        return dataclasses.replace(self, device=put_on(devices, self.device), devices=devices)


def method_of(structure: Structure) -> tuple[object, ...]:
    """Return what the data on the device depend on; groups that share it share the data."""
    settings = (structure.preprocessing, structure.components, structure.variance)
    return *settings, structure.precision, structure.row.takes_images


@dataclass(frozen=True, eq=False, kw_only=True)
class HostData:
    """What `PreparedData` is made of, in arrays of the host: the same for every device of a sweep.

    Raw pixels where the preprocessing is elementwise (they are transformed when they are
    gathered); else its output.
    """

    images: np.ndarray
    labels: np.ndarray
    mean: np.ndarray | None
    scale: np.ndarray | None
    precision: str
    train: int
    validation: int
    shapes: Shapes
    preprocessing: Preprocessing

    def to_device(self) -> PreparedData:
        """Put the arrays on the device; where that is the host, images stay where they are."""
        with numerics(self.precision):
            device = DeviceData(
                jax.device_put(self.images),  # jnp.asarray would copy
                jax.device_put(self.labels),
                None if self.mean is None else jnp.asarray(self.mean),
                None if self.scale is None else jnp.asarray(self.scale),
            )
        return PreparedData(
            device=device,
            train=self.train,
            validation=self.validation,
            shapes=self.shapes,
            preprocessing=self.preprocessing,
        )


def shapes_of(data: DataSet) -> Shapes:
    """Return the shapes of a data set before any preprocessing."""
    return Shapes(data.input_shape, len(data.class_names))


def gather(splits: Splits, structure: Structure, shapes: Shapes) -> HostData:
    """Fit the structure's preprocessing on the training rows, and join both splits."""
    preprocessing = fit(
        splits.train.images,
        structure.preprocessing,
        components=structure.components,
        variance=structure.variance,
    )
    images = np.concatenate([splits.train.images, splits.validation.images])
    labels = np.concatenate([splits.train.labels, splits.validation.labels])
    dtype = np.dtype(parameter_dtype(structure))
    mean = scale = None
    if preprocessing.is_elementwise:
        images = images.reshape(len(images), -1)
        mean = np.asarray(preprocessing.mean, dtype)
        if preprocessing.scale is not None:
            scale = np.asarray(preprocessing.scale, dtype)
    else:
        images = preprocessing.apply(images)
    pixels = structure.row.takes_images and structure.preprocessing != "pca"
    return HostData(
        images=images,
        labels=labels,
        mean=mean,
        scale=scale,
        precision=structure.precision,
        train=len(splits.train),
        validation=len(splits.validation),
        shapes=shapes if pixels else shapes._replace(input=(images.shape[1],)),
        preprocessing=preprocessing,
    )


def prepare(splits: Splits, structure: Structure, shapes: Shapes) -> PreparedData:
    """Return the data of both splits on the device, as the structure's preprocessing has them."""
    return gather(splits, structure, shapes).to_device()


class DataCache:
    """The data of a sweep, prepared as one structure after another asks; the last stay."""

    def __init__(self, splits: Splits, shapes: Shapes) -> None:
        self._splits, self.shapes = splits, shapes
        self._method: tuple[object, ...] | None = None
        self._prepared: dict[int, PreparedData] = {}

    def on(self, structure: Structure, devices: int = 1) -> PreparedData:
        """Return the data of a structure on so many devices of this process."""
        if self._method != method_of(structure):
            self._prepared = {}  # drop the old data before making the new
            self._prepared[1] = prepare(self._splits, structure, self.shapes)
            self._method = method_of(structure)
        if devices not in self._prepared:
            self._prepared[devices] = self._prepared[1].on(devices)
        return self._prepared[devices]

    def host(self, structure: Structure) -> HostData:
        """Return the data of a structure as arrays of the host, to send elsewhere."""
        return gather(self._splits, structure, self.shapes)
