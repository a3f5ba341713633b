"""The data of a sweep on the device, with the preprocessing that a structure asks for."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.data import Preprocessing, Splits, fit
from jaxnet.training.layout import Devices, place
from jaxnet.training.numerics import numerics, parameter_dtype
from jaxnet.training.program import DeviceData
from jaxnet.training.settings import Structure


@dataclass(frozen=True)
class PreparedData:
    """Training rows, then validation rows, on the device, and the preprocessing they go through.

    `input_shape` is that of one preprocessed image: [features], or as the image where the
    structure takes images. `devices` are those that have it all, if they are several.
    """

    device: DeviceData
    train: int
    validation: int
    classes: int
    input_shape: tuple[int, ...]
    preprocessing: Preprocessing
    devices: Devices = ()

    def on(self, devices: Devices) -> "PreparedData":
        """Return the same data on each of these devices."""
        return dataclasses.replace(self, device=place(self.device, devices), devices=devices)


def method_of(structure: Structure) -> tuple[object, ...]:
    """Return what the data on the device depend on; groups that share it share the data."""
    settings = (structure.preprocessing, structure.components, structure.variance)
    return *settings, structure.precision, structure.takes_images


@dataclass(frozen=True, eq=False)
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
    classes: int
    input_shape: tuple[int, ...]
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
            device,
            self.train,
            self.validation,
            self.classes,
            self.input_shape,
            self.preprocessing,
        )


def gather(
    splits: Splits, structure: Structure, image_shape: tuple[int, ...], classes: int
) -> HostData:
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
    pixels = structure.takes_images and structure.preprocessing != "pca"
    return HostData(
        images,
        labels,
        mean,
        scale,
        structure.precision,
        len(splits.train),
        len(splits.validation),
        classes,
        image_shape if pixels else (images.shape[1],),
        preprocessing,
    )


def prepare(
    splits: Splits, structure: Structure, image_shape: tuple[int, ...], classes: int
) -> PreparedData:
    """Return the data of both splits on the device, as the structure's preprocessing has them."""
    return gather(splits, structure, image_shape, classes).to_device()
