"""Preprocessing fitted on the training images only, and applied to every image in the same way."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

from jaxnet.arguments.signatures import checked
from jaxnet.data.moments import (
    chunks,
    decomposition_bytes,
    mean_of,
    principal_axes,
    whitening,
)
from jaxnet.data.scale import Scale
from jaxnet.errors import ConfigurationError, DataError, unknown
from jaxnet.host.memory import host_memory

METHODS = ("none", "unit_range", "mean_image", "standardize", "pca", "zca")
ELEMENTWISE = ("none", "unit_range", "mean_image", "standardize")
_SCALED = ("unit_range", "standardize")
# Of the arrays that a method has besides its mean.
_EXTRA_DIMENSIONS = {
    **{"none": [], "unit_range": [1], "mean_image": [], "standardize": [1]},
    **{"pca": [2], "zca": [2]},
}

ZCA_REGULARIZATION = 0.1
# Pixels that hardly vary (the corners of Fashion-MNIST) would otherwise be blown up without bound.
SMALLEST_STD = 1e-2


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """y = (x − mean) · scale, or y = (x − mean) @ projection, over the flattened pixels x.

    `mean` and `scale` are float32 `[features]`, `projection` float32 `[features, components]`; at
    most one of the latter two is given. `pixels` is the scale of the images it was fitted on. Make
    one with `fit`.
    """

    method: str
    pixels: Scale
    mean: Float32[np.ndarray, "features"]
    scale: Float32[np.ndarray, "features"] | None = None
    projection: Float32[np.ndarray, "features components"] | None = None

    @property
    def features(self) -> int:
        """Pixels of an image, all channels together."""
        return len(self.mean)

    @property
    def output_shape(self) -> tuple[int]:
        """Shape of one image after `apply`: flat."""
        return (self.features if self.projection is None else self.projection.shape[1],)

    @property
    def is_elementwise(self) -> bool:
        """Whether it can run on the device at the minibatch gather, with images kept as uint8."""
        return self.method in ELEMENTWISE

    @checked
    def apply(self, images: Shaped[np.ndarray, "n *shape"]) -> Float32[np.ndarray, "n outputs"]:
        """Return float32 `[n, *output_shape]` of images `[n, *shape]` in the pixel scale fitted on.

        DataError if the images do not have `features` pixels.
        """
        x = _flat(images)
        if x.shape[1] != self.features:
            raise DataError(
                f"preprocessing was fitted on {self.features} pixels an image, got images "
                f"{list(images.shape[1:])} of {x.shape[1]}. Give images of the shape that the "
                "training set had."
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
        """Return all of it as arrays, the method's name as bytes, for a safetensors file."""
        method = np.frombuffer(self.method.encode(), np.uint8)
        arrays = {"mean": self.mean, "scale": self.scale, "projection": self.projection}
        given = {k: v for k, v in arrays.items() if v is not None}
        return {"method": method, "pixels": self.pixels.to_array()} | given

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Preprocessing":
        """Undo `to_arrays`; other entries are ignored. DataError if they do not fit together."""
        if missing := {"method", "pixels", "mean"} - arrays.keys():
            raise DataError(
                f"saved preprocessing lacks {' and '.join(sorted(missing))}. The file was not "
                "written by jaxnet, or is damaged; save the model again."
            )
        method = bytes(arrays["method"]).decode("ascii", "replace")
        _check_method(method)
        pixels = arrays["pixels"]
        if pixels.dtype != np.float32 or pixels.shape != (3,) or not np.isfinite(pixels).all():
            raise DataError(
                f"saved preprocessing {method!r}: expected three finite float32 for the pixels it "
                f"was fitted on, got {pixels.dtype}{list(pixels.shape)}. The file is damaged; save "
                "the model again."
            )
        mean, scale, projection = (arrays.get(k) for k in ("mean", "scale", "projection"))
        given = [a for a in (mean, scale, projection) if a is not None]
        if (
            any(a.dtype != np.float32 or a.shape[:1] != given[0].shape for a in given)
            or [a.ndim for a in given] != [1, *_EXTRA_DIMENSIONS[method]]
            or (scale is None) == (method in _SCALED)
        ):
            raise DataError(
                f"saved preprocessing {method!r}: expected a float32 mean [features] and, as the "
                "method asks, a scale [features] or a projection [features, components], got "
                f"{', '.join(f'{a.dtype}{list(a.shape)}' for a in given)}. The file is damaged; "
                "save the model again."
            )
        return cls(method, Scale.from_array(pixels), arrays["mean"], scale, projection)


@checked
def fit(
    images: Shaped[np.ndarray, "n *shape"],
    method: str,
    *,
    components: int | None = None,
    variance: float | int | None = None,
    regularization: float | int = ZCA_REGULARIZATION,
) -> Preprocessing:
    """Fit a method on training images `[n, *shape]`, uint8 or float32, in whatever scale they have.

    none         y = x
    unit_range   y = (x − lowest) / (highest − lowest), of all training pixels: 0..255 becomes 0..1
    mean_image   y = x − mean, the course's: on the 0..255 scale, no division
    standardize  y = (x − mean) / max(std, 0.01 · the largest std), so that pixels that hardly vary
                 are not blown up; std is the biased one, as np.std
    pca          y = (x − mean) V_k, the k leading eigenvectors of the covariance: k = `components`,
                 or the fewest that keep the fraction `variance` of the variance
    zca          y = (x − mean) V (Λ + ε · mean(Λ))^(−1/2) Vᵀ with ε = `regularization`; images stay
                 images, and as ε → 0 their covariance becomes the identity

    Λ, V are of the biased covariance (division by n); the largest entry of each eigenvector is made
    positive, so that PCA does not depend on the LAPACK at hand. Means and covariances are summed in
    float64 over chunks. ConfigurationError for settings that cannot be, DataError for images that
    are too few or do not vary.
    """
    _check_method(method)
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
        return Preprocessing(method, pixels, np.zeros(x.shape[1], np.float32))
    if method == "unit_range":
        return _unit_range(x, pixels)
    mean = mean_of(x)
    mean32 = mean.astype(np.float32)
    if method == "mean_image":
        return Preprocessing(method, pixels, mean32)
    if method == "standardize":
        return Preprocessing(method, pixels, mean32, scale=_inverse_std(x, mean))
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
            projection = whitening(variances, axes, regularization)
            return Preprocessing(method, pixels, mean32, projection=_as32(projection))
    except MemoryError:
        raise _too_large(method, *x.shape) from None
    if components is None:
        assert variance is not None  # _check_pca
        kept = np.cumsum(variances) / variances.sum()
        # The last bits of the sum must not ask for one component more, or one too many.
        components = min(int(np.searchsorted(kept, variance - 1e-12)) + 1, min(x.shape))
    return Preprocessing(method, pixels, mean32, projection=_as32(axes[:, :components]))


def check_memory(method: str, rows: int, features: int) -> None:
    """Raise ConfigurationError for a decomposition that takes more than half of the memory."""
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


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ConfigurationError(unknown("preprocessing", method, METHODS))


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
    return _as32(1 / np.maximum(std, SMALLEST_STD * std.max()))


def _unit_range(x: np.ndarray, pixels: Scale) -> Preprocessing:
    lowest, highest = pixels.lowest, pixels.highest
    if not lowest < highest:
        raise _unvarying("unit_range")
    low, scale = np.float32(lowest), np.float32(1 / (highest - lowest))
    mean, scales = np.full(x.shape[1], low), np.full(x.shape[1], scale)
    return Preprocessing("unit_range", pixels, mean, scales)


def _as32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _unvarying(method: str) -> DataError:
    return DataError(
        f"preprocessing {method!r}: all training images are equal, there is no variance to scale. "
        "Check how the images were loaded, or use method='mean_image'."
    )
