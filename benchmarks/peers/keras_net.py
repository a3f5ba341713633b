"""The net of convolutions in Keras, with Keras's own training: the recipe of the source."""

import math
import os
import time
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def train_source_net(
    images: np.ndarray,
    labels: np.ndarray,
    judged: tuple[np.ndarray, np.ndarray],
    *,
    rate: float,
    seed: int,
    epochs: int,
) -> tuple[float, float]:
    """Return the validation accuracy at the end, and the seconds with compilation.

    Pixels from 0 to 1, glorot-uniform weights, Adam, batch 32 of a new order each epoch, the rate
    times e^−0.05 from the second epoch on.
    """
    import keras  # pyright: ignore[reportMissingImports]

    start = time.perf_counter()
    keras.utils.set_random_seed(seed)
    model = _net(keras, images.shape[1:])
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    decay = keras.callbacks.LearningRateScheduler(
        lambda epoch, rate: rate * math.exp(-0.05) if epoch else rate
    )
    found = model.fit(
        images,
        labels,
        batch_size=32,
        epochs=epochs,
        validation_data=judged,
        callbacks=[decay],
        verbose=0,
    )
    return found.history["val_accuracy"][-1], time.perf_counter() - start


def _net(keras: Any, shape: tuple[int, ...]) -> Any:
    layers = keras.layers

    def conv(x: Any, filters: int, kernel: int, activation: str = "relu") -> Any:
        return layers.Conv2D(filters, kernel, padding="same", activation=activation)(x)

    image = keras.Input(shape)
    branch = conv(conv(image, 64, 3), 64, 3, "linear")
    x = layers.Activation("relu")(layers.add([branch, conv(image, 64, 1)]))
    x = layers.MaxPooling2D(2)(x)
    pooled = layers.MaxPooling2D(3, 1, padding="same")(x)
    x = layers.concatenate(
        [
            conv(x, 32, 1),
            conv(conv(x, 64, 1), 64, 3),
            conv(conv(x, 64, 1), 64, 5),
            conv(pooled, 16, 1),
        ]
    )
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D(2)(x))
    return keras.Model(image, layers.Dense(10, activation="softmax")(x))
