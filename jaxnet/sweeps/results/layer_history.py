"""What went on inside a network while it trained, layer by layer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from jaxnet.errors import DataError
from jaxnet.host.tensors import read_fields, write_tensors


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerHistory:
    """Norms and activations at some steps of one run; L affine layers, H = L − 1 hidden ones.

    `weight`, `gradient` and `update` are √mean(x²) of each layer's weight matrix, of the gradient
    of one minibatch by it, and of the update that the optimizer makes of that. `dead` is the share
    of units whose output is 0 for every row looked at (relu), `saturated` the share of outputs
    within 2.5 % of the activation's range from one of its ends (tanh, sigmoid); NaN where the
    activation has no such thing. `data_loss` is the minibatch's loss without it, `penalty` the
    penalty on the weights.
    """

    steps: Int64[np.ndarray, "looks"]
    weight: Float[np.ndarray, "looks layers"]
    gradient: Float[np.ndarray, "looks layers"]
    update: Float[np.ndarray, "looks layers"]
    dead: Float[np.ndarray, "looks hidden"]
    saturated: Float[np.ndarray, "looks hidden"]
    data_loss: Float[np.ndarray, "looks"]
    penalty: Float[np.ndarray, "looks"]

    @property
    def ratio(self) -> Float[np.ndarray, "looks layers"]:
        """Update over weight, by layer; NaN for weights that are all zero."""
        with np.errstate(all="ignore"):
            return np.where(self.weight > 0, self.update / self.weight, np.nan)

    def then(self, later: "LayerHistory") -> "LayerHistory":
        """Return this history up to where the later one begins, and the later one."""
        kept = self.steps < later.steps[0] if len(later.steps) else slice(None)
        ours, theirs = vars(self), vars(later)
        return LayerHistory(**{n: np.concatenate([ours[n][kept], theirs[n]]) for n in ours})

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        write_tensors(path, dict(vars(self)))

    @classmethod
    def load(cls, path: Path) -> "LayerHistory":
        """Read what `save` wrote; DataError where it cannot be."""
        series = {name: ("f", 1) for name in ("data_loss", "penalty")}
        layers = {name: ("f", 2) for name in ("weight", "gradient", "update", "dead", "saturated")}
        found = cls(**read_fields(path, {"steps": ("i", 1), **series, **layers}))
        looks = {len(value) for value in vars(found).values()}
        alike = found.weight.shape == found.gradient.shape == found.update.shape
        if len(looks) != 1 or 0 in looks or not found.weight.size or not alike:
            raise DataError(f"{path}: its series are empty, or not of one length")
        return found

    def content(self) -> dict[str, Any]:
        """Return the series by layer, with the words that go with them."""
        layers = self.weight.shape[1]
        panels: list[dict[str, Any]] = [
            {
                "title": "Update-to-weight ratio",
                "note": "Near 1e-3 (dotted) is a common rule of thumb.",
                "series": self.ratio.T,
                "log": True,
                "target": 1e-3,
            },
            {
                "title": "Gradient by layer",
                "note": "Root mean square of one minibatch's gradient.",
                "series": self.gradient.T,
                "log": True,
            },
        ]
        shares = {"Dead units": self.dead, "Saturated outputs": self.saturated}
        for title, values in shares.items():
            if values.size and np.isfinite(values).any():
                note = "Share, by hidden layer."
                panels.append({"title": title, "note": note, "series": values.T, "log": False})
        if (self.penalty > 0).any():
            share = self.penalty / (self.penalty + self.data_loss)
            note = "Share of the L2 penalty in the loss."
            panels.append(
                {"title": "Penalty", "note": note, "series": [share], "log": False, "names": ["L2"]}
            )
        names = [f"layer {i + 1}" for i in range(layers)]
        return {"steps": self.steps, "layers": names, "panels": panels}
