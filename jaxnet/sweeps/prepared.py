"""The data of a sweep on the device, with the preprocessing that a structure asks for."""

import dataclasses
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jaxnet.configuration import Structure
from jaxnet.data import Preprocessing, Splits, fit
from jaxnet.numerics import numerics, parameter_dtype
from jaxnet.stacking import Devices, place
from jaxnet.training import DeviceData


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


def prepare(
    splits: Splits, structure: Structure, image_shape: tuple[int, ...], classes: int
) -> PreparedData:
    """Fit the structure's preprocessing on the training rows and put both splits on the device.

    Raw pixels go there where it is elementwise, and are transformed when they are gathered; else
    its output.
    """
    preprocessing = fit(
        splits.train.images,
        structure.preprocessing,
        components=structure.components,
        variance=structure.variance,
    )
    images = np.concatenate([splits.train.images, splits.validation.images])
    labels = np.concatenate([splits.train.labels, splits.validation.labels])
    with numerics(structure.precision):
        dtype = parameter_dtype(structure)
        mean = scale = None
        if preprocessing.is_elementwise:
            images = images.reshape(len(images), -1)
            mean = jnp.asarray(preprocessing.mean, dtype)
            if preprocessing.scale is not None:
                scale = jnp.asarray(preprocessing.scale, dtype)
        else:
            images = preprocessing.apply(images)
        device = DeviceData(jnp.asarray(images), jnp.asarray(labels), mean, scale)
    pixels = structure.takes_images and structure.preprocessing != "pca"
    return PreparedData(
        device,
        len(splits.train),
        len(splits.validation),
        classes,
        image_shape if pixels else (images.shape[1],),
        preprocessing,
    )
