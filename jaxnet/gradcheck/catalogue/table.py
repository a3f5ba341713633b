"""The table of layers, losses, networks and update rules, and what it lacks.

A row checks one thing at random arguments. Rows that differ in dtype and numbers only (rates,
strengths) trace to one program, so that its compiled code serves them all.
"""

from collections.abc import Sequence

from jaxnet import layers, losses
from jaxnet.gradcheck.catalogue.compositions import composition_rows
from jaxnet.gradcheck.catalogue.layers import layer_rows
from jaxnet.gradcheck.catalogue.losses import loss_rows
from jaxnet.gradcheck.catalogue.networks import network_rows
from jaxnet.gradcheck.catalogue.row import Row
from jaxnet.gradcheck.catalogue.updates import update_rows
from jaxnet.optimizers import OPTIMIZERS
from jaxnet.training.architectures import ARCHITECTURES
from jaxnet.training.settings import NORMS

_COMBINATORS = ("serial", "residual", "concat", "identity", "as_custom_vjp", "as_function")


def catalogue() -> list[Row]:
    """Return every row. The functions are looked up now: a changed layer is the one checked."""
    return [*layer_rows(), *loss_rows(), *composition_rows(), *network_rows(), *update_rows()]


def without_row(rows: Sequence[Row]) -> list[str]:
    """Return the names in jaxnet that no row proves; none if the rows are the whole catalogue."""
    forward = [name.removesuffix("_forward") for name in layers.__all__ if "_forward" in name]
    needed = [("layer", name) for name in dict.fromkeys([*layers.ACTIVATIONS, *forward])]
    needed += [("loss", name) for name in [*losses.LOSSES, "l2_penalty"]]
    needed += [("composition", name) for name in _COMBINATORS]
    needed += [("network", f"norm {name}") for name in NORMS]
    needed += [("network", name) for name, row in ARCHITECTURES.items() if not row.is_chain]
    needed += [("update rule", name) for name in OPTIMIZERS]
    have = {(row.kind, row.name) for row in rows}
    return [f"{kind} {name}" for kind, name in needed if (kind, name) not in have]
