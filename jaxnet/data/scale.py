"""The scale of pixels: images from 0 to 1 are not for a network trained on 0 to 255."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

# Between scales that are mixed up lie factors of 255 and, to standardized pixels, about 100; dark
# images and other features do not differ as much in both their largest and their usual size.
FACTOR = 50
_ROWS = 1000  # that the usual size is taken from


@dataclass(frozen=True)
class Scale:
    """Lowest and highest value of images, and the mean of their absolute values."""

    lowest: float
    highest: float
    size: float

    @classmethod
    def of(cls, images: Shaped[np.ndarray, "n *shape"]) -> "Scale":
        """Return the scale of images, of which there is at least one; the size is of some."""
        some = images[:: max(1, len(images) // _ROWS)]
        with np.errstate(over="ignore"):  # infinity is another scale than any
            size = np.abs(some.astype(np.float32)).mean(dtype=np.float64)
        return cls(float(images.min()), float(images.max()), float(size))

    @classmethod
    def from_array(cls, array: Float32[np.ndarray, "3"]) -> "Scale":
        """Undo `to_array`."""
        return cls(*map(float, array))

    def to_array(self) -> Float32[np.ndarray, "3"]:
        """Return the three numbers."""
        return np.array([self.lowest, self.highest, self.size], np.float32)

    def is_unlike(self, other: "Scale") -> bool:
        """Whether the one is FACTOR times the other, largest values and usual ones alike.

        Images that are all 0 are of any scale.
        """
        pairs = ((self.largest, other.largest), (self.size, other.size))
        return all(a > FACTOR * b > 0 for a, b in pairs) or all(
            b > FACTOR * a > 0 for a, b in pairs
        )

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return max(abs(self.lowest), abs(self.highest))

    def __str__(self) -> str:
        return f"from {self.lowest:.4g} to {self.highest:.4g}"
