"""Preprocessing: fitted on the training images only, applied to every image in the same way."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

from jaxnet.arguments.checks import one_of
from jaxnet.arguments.signatures import checked
from jaxnet.data.moments import (
    chunks,
    decomposition_bytes,
    mean_of,
    principal_axes,
    whitening,
)
from jaxnet.data.scale import Scale
from jaxnet.errors import ConfigurationError, DataError
from jaxnet.host.memory import host_memory

# The arrays of each method, with their numbers of dimensions.
_MEAN, _SCALED, _PROJECTED = {"mean": 1}, {"mean": 1, "scale": 1}, {"mean": 1, "projection": 2}
_ARRAYS = {
    **{"none": _MEAN, "unit_range": _SCALED, "mean_image": _MEAN, "standardize": _SCALED},
    **{"pca": _PROJECTED, "zca": _PROJECTED},
}
METHODS = tuple(_ARRAYS)
ELEMENTWISE = tuple(method for method in METHODS if _ARRAYS[method] is not _PROJECTED)

ZCA_REGULARIZATION = 0.1
# As a share of the largest std. Pixels that hardly vary (the corners of Fashion-MNIST) would
# otherwise be scaled up without bound.
MIN_RELATIVE_STD = 1e-2


@dataclass(frozen=True, eq=False, kw_only=True)
class Preprocessing:
    """y = (x − mean) · scale, or y = (x − mean) @ projection, over the flattened pixels x.

    `mean` and `scale` are float32 `[features]`, `projection` float32 `[features, components]`; a
    method has at most one of the latter two. `pixels` is the scale of the training images. `fit`
    makes one.
    """

    method: str
    pixels: Scale
    mean: Float32[np.ndarray, "features"]
    scale: Float32[np.ndarray, "features"] | None = None
    projection: Float32[np.ndarray, "features components"] | None = None

    @property
    def features(self) -> int:
        """The number of pixels of an image, over all channels."""
        return len(self.mean)

    @property
    def output_shape(self) -> tuple[int]:
        """The shape of one image after `apply`, which is flat."""
        return (self.features if self.projection is None else self.projection.shape[1],)

    @property
    def is_elementwise(self) -> bool:
        """Whether the device can apply it to gathered minibatches, so that images stay uint8."""
        return self.method in ELEMENTWISE

    @checked
    def apply(self, images: Shaped[np.ndarray, "n *shape"]) -> Float32[np.ndarray, "n outputs"]:
        """Return float32 `[n, *output_shape]` for images `[n, *shape]` in the training scale.

        Raises DataError if the images do not have `features` pixels.
        """
        x = _flat(images)
        if x.shape[1] != self.features:
            raise DataError(
                f"preprocessing was fitted on {self.features} pixels an image, got images "
                f"{list(images.shape[1:])} of {x.shape[1]}. Give images of the training images' "
                "shape."
            )
        y = np.empty((len(x), *self.output_shape), np.float32)
        for rows in chunks(x, np.float32):
            centred = np.subtract(x[rows], self.mean, dtype=np.float32)
            if self.projection is not None:
                np.matmul(centred, self.projection, out=y[rows])
            elif self.scale is not None:
                np.multiply(centred, self.scale, out=y[rows])
            else:
                y[rows] = centred
        return y

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the fields as arrays for a safetensors file; the method's name becomes bytes."""
        method = np.frombuffer(self.method.encode(), np.uint8)
        arrays = {"mean": self.mean, "scale": self.scale, "projection": self.projection}
        given = {k: v for k, v in arrays.items() if v is not None}
        return {"method": method, "pixels": self.pixels.to_array()} | given

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Preprocessing":
        """Undo `to_arrays`, and ignore other entries; raise DataError if arrays do not fit."""
        if missing := {"method", "pixels", "mean"} - arrays.keys():
            raise DataError(
                f"saved preprocessing lacks {' and '.join(sorted(missing))}. The file was not "
                "written by jaxnet, or is damaged; save the model again."
            )
        method = bytes(arrays["method"]).decode("ascii", "replace")
        one_of("preprocessing", method, METHODS)
        pixels = arrays["pixels"]
        if pixels.dtype != np.float32 or pixels.shape != (3,) or not np.isfinite(pixels).all():
            raise DataError(
                f"saved preprocessing {method!r}: expected three finite float32 for the pixels it "
                f"was fitted on, got {pixels.dtype}{list(pixels.shape)}. The file is damaged; save "
                "the model again."
            )
        given = {k: arrays[k] for k in ("mean", "scale", "projection") if k in arrays}
        features = given["mean"].shape
        got = ", ".join(f"{a.dtype}{list(a.shape)}" for a in given.values())
        if {k: a.ndim for k, a in given.items()} != _ARRAYS[method] or any(
            a.dtype != np.float32 or a.shape[:1] != features for a in given.values()
        ):
            raise DataError(
                f"saved preprocessing {method!r}: expected a float32 mean [features] and, as the "
                "method asks, a scale [features] or a projection [features, components], got "
                f"{got}. The file is damaged; save the model again."
            )
        return cls(method=method, pixels=Scale.from_array(pixels), **given)


@checked
def fit(
    images: Shaped[np.ndarray, "n *shape"],
    method: str,
    *,
    components: int | None = None,
    variance: float | int | None = None,
    regularization: float | int = ZCA_REGULARIZATION,
) -> Preprocessing:
    """Fit a method on training images `[n, *shape]`, uint8 or float32, in any scale.

    none         y = x
    unit_range   y = (x − lowest) / (highest − lowest), over all pixels: 0..255 becomes 0..1
    mean_image   y = x − mean, as in the course: the 0..255 scale stays
    standardize  y = (x − mean) / max(std, 0.01 · the largest std), so that pixels that hardly vary
                 are not scaled up; std is the biased one, as np.std
    pca          y = (x − mean) V_k, with the k leading eigenvectors of the covariance; k is
                 `components`, or the smallest that keeps the fraction `variance` of the variance
    zca          y = (x − mean) V (Λ + ε · mean(Λ))^(−1/2) Vᵀ with ε = `regularization`; images stay
                 images, and as ε → 0 their covariance becomes the identity

    Λ and V belong to the biased covariance (division by n); the largest entry of each eigenvector
    is made positive, so that PCA does not depend on the LAPACK at hand. Means and covariances are
    summed in float64 over chunks. Raises ConfigurationError for settings that are out of range, and
    DataError for too few images or images that do not vary.
    """
    one_of("preprocessing", method, METHODS)
    if method != "pca" and (components is not None or variance is not None):
        raise ConfigurationError(
            f"components and variance belong to 'pca', got them with {method!r}. "
            "Leave them out, or use method='pca'."
        )
    x, least = _flat(images), 1 if method == "none" else 2
    if len(x) < least:
        raise DataError(
            f"preprocessing {method!r} needs at least {least} training images to fit on, got "
            f"{len(x)}. Use more training rows, or method='none'."
        )
    pixels = Scale.of(images)
    if method == "none":
        return Preprocessing(method=method, pixels=pixels, mean=np.zeros(x.shape[1], np.float32))
    if method == "unit_range":
        return _unit_range(x, pixels)
    mean = mean_of(x)
    fitted = functools.partial(Preprocessing, method=method, pixels=pixels, mean=_as32(mean))
    if method == "mean_image":
        return fitted()
    if method == "standardize":
        return fitted(scale=_inverse_std(x, mean))
    if method == "pca":
        _check_pca(components, variance, most=min(x.shape))
    elif not 1e-30 <= regularization <= 1e30:
        raise ConfigurationError(
            f"regularization must be from 1e-30 to 1e30, got {regularization}. At 0 a "
            "direction without variance is divided by 0; 0.1 is the default, 1e-3 whitens nearly "
            "fully."
        )
    check_memory(method, *x.shape)
    try:
        variances, axes = principal_axes(x, mean)
        if variances[0] == 0:
            raise _unvarying(method)
        if method == "zca":
            return fitted(projection=_as32(whitening(variances, axes, regularization)))
    except MemoryError:
        raise _too_large(method, *x.shape) from None
    if components is None:
        assert variance is not None  # _check_pca
        explained = np.cumsum(variances) / variances.sum()
        # The tolerance keeps rounding of the sum from asking for one more component.
        components = min(int(np.searchsorted(explained, variance - 1e-12)) + 1, min(x.shape))
    return fitted(projection=_as32(axes[:, :components]))


def check_memory(method: str, rows: int, features: int) -> None:
    """Raise ConfigurationError if the decomposition takes more than half of the memory."""
    if method in ELEMENTWISE:
        return
    if _bytes_to_fit(method, rows, features) > host_memory() / 2:
        raise _too_large(method, rows, features)


def _bytes_to_fit(method: str, rows: int, features: int) -> int:
    projection = 4 * features**2 if method == "zca" else 0
    return decomposition_bytes(rows, features) + projection


def _too_large(method: str, rows: int, features: int) -> ConfigurationError:
    return ConfigurationError(
        f"preprocessing {method!r} of {rows:,} images with {features:,} pixels takes "
        f"{_bytes_to_fit(method, rows, features) / 2**30:.1f} GiB, expected at most half of this "
        f"machine's {host_memory() / 2**30:.1f}: give smaller images, or use 'mean_image'"
    )


def _check_pca(components: int | None, variance: float | int | None, most: int) -> None:
    if (components is None) == (variance is None):
        raise ConfigurationError(
            "'pca' needs either components or variance, got "
            f"{'neither' if components is None else 'both'}. "
            "Give for example components=100, or variance=0.99."
        )
    if components is not None and not 1 <= components <= most:
        raise ConfigurationError(
            f"components must be in 1..{most} (the smaller of training images and pixels), "
            f"got {components}."
        )
    if variance is not None and not 0 < variance <= 1:
        raise ConfigurationError(
            f"variance is the fraction to keep, in (0, 1], got {variance}. For 99 % give 0.99."
        )


def _flat(images: np.ndarray) -> np.ndarray:
    if images.ndim < 2:
        raise DataError(
            f"expected images [n, *shape], got shape {list(images.shape)}. "
            "For one image give image[None]."
        )
    return images.reshape(len(images), int(np.prod(images.shape[1:])))


def _inverse_std(x: np.ndarray, mean: np.ndarray) -> Float32[np.ndarray, "features"]:
    squares = np.zeros(x.shape[1])
    for rows in chunks(x, np.float64):
        centred = x[rows] - mean
        squares += np.einsum("nf,nf->f", centred, centred)
    std = np.sqrt(squares / len(x))
    if std.max() == 0:
        raise _unvarying("standardize")
    return _as32(1 / np.maximum(std, MIN_RELATIVE_STD * std.max()))


def _unit_range(x: np.ndarray, pixels: Scale) -> Preprocessing:
    lowest, highest = pixels.lowest, pixels.highest
    if not lowest < highest:
        raise _unvarying("unit_range")
    low, scale = np.float32(lowest), np.float32(1 / (highest - lowest))
    mean, scales = np.full(x.shape[1], low), np.full(x.shape[1], scale)
    return Preprocessing(method="unit_range", pixels=pixels, mean=mean, scale=scales)


def _as32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _unvarying(method: str) -> DataError:
    return DataError(
        f"preprocessing {method!r}: all training images are equal, there is no variance to scale. "
        "Check how the images were loaded, or use method='mean_image'."
    )
