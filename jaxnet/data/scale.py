"""The scale of pixels: a network trained on 0 to 255 cannot use images from 0 to 1."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

# Scales that people confuse differ by a factor of 255, or of about 100 for standardized pixels.
# Dark images and other features do not differ as much in both their largest and their mean size.
MIN_SCALE_RATIO = 50
_SAMPLE_ROWS = 1000  # enough for the mean size


@dataclass(frozen=True)
class Scale:
    """Lowest and highest value of images, and the mean of their absolute values."""

    lowest: float
    highest: float
    size: float

    @classmethod
    def of(cls, images: Shaped[np.ndarray, "n *shape"]) -> "Scale":
        """Return the scale of one image or more; a sample of the rows gives the size."""
        some = images[:: max(1, len(images) // _SAMPLE_ROWS)]
        with np.errstate(over="ignore"):  # an infinite size is unlike any other
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
        """Whether both the largest and the mean size differ by more than MIN_SCALE_RATIO.

        Images that are all 0 fit any scale.
        """
        pairs = ((self.largest, other.largest), (self.size, other.size))
        return all(a > MIN_SCALE_RATIO * b > 0 for a, b in pairs) or all(
            b > MIN_SCALE_RATIO * a > 0 for a, b in pairs
        )

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return max(abs(self.lowest), abs(self.highest))

    def __str__(self) -> str:
        return f"from {self.lowest:.4g} to {self.highest:.4g}"
