"""Read the dicts of settings that the course's layers take, and check upstream gradients."""

from typing import Any

import numpy as np
from jax import Array

from jaxnet.cs231n.arrays import floats, numpy
from jaxnet.errors import ConfigurationError, unknown


def training(name: str, param: dict[str, Any]) -> bool:
    """Return whether the mode is "train"; raise ConfigurationError for others than "test"."""
    if "mode" not in param:
        raise ConfigurationError(f"{name} lacks 'mode': set it to 'train' or 'test'")
    if param["mode"] not in ("train", "test"):
        raise ConfigurationError(unknown(f"mode in {name}", str(param["mode"]), ("train", "test")))
    return param["mode"] == "train"


def batchnorm_settings(bn_param: dict[str, Any], width: int, dtype: Any) -> dict[str, Any]:
    """Return the arguments of batch normalization other than scale and shift, with defaults."""
    zeros = np.zeros(width, dtype)
    return {
        "running_mean": np.asarray(bn_param.get("running_mean", zeros), dtype),
        "running_variance": np.asarray(bn_param.get("running_var", zeros), dtype),
        "train": training("bn_param", bn_param),
        "momentum": bn_param.get("momentum", 0.9),
        "eps": bn_param.get("eps", 1e-5),
    }


def keep_running(bn_param: dict[str, Any], running: tuple[Array, Array]) -> None:
    """Write the running statistics into `bn_param`, as the course does."""
    bn_param["running_mean"], bn_param["running_var"] = numpy(running)


def like(shape: tuple[int, ...], dout: Any, cached: Any) -> np.ndarray:
    """Return dout in the dtype of `cached`; raise ConfigurationError for another shape."""
    (dout,) = floats(dout=dout)
    if dout.shape != shape:
        raise ConfigurationError(
            f"dout: expected the shape of the layer's output {shape}, got {dout.shape}"
        )
    return dout.astype(cached.dtype, copy=False)
