"""Means over one element, which equal sums."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.extend import core

from jaxnet.gradcheck.jaxpr.equations import programs_in
from jaxnet.gradcheck.kinks.branch_sites import Site, site_of


def means_of_one(program: Any) -> Iterator[Site]:
    """Yield the sites that divide a sum by 1, or a sum over a single row by any number."""
    made_by = {v: eqn for eqn in program.eqns for v in eqn.outvars}

    def maker(atom):
        return None if isinstance(atom, core.Literal) else made_by.get(atom)

    for eqn in program.eqns:
        if eqn.primitive.name == "div" and _is_number(eqn.invars[1]):
            above = maker(eqn.invars[0])
            while above is not None and above.primitive.name in _SHAPE_PRIMITIVES:
                above = maker(above.invars[0])
            if above is not None and above.primitive.name == "reduce_sum":
                rows = above.invars[0].aval.shape[0] if 0 in above.params["axes"] else None
                if rows == 1 or eqn.invars[1].val == 1:
                    yield site_of(eqn)
        for inner in programs_in(eqn.params):
            yield from means_of_one(inner)


_SHAPE_PRIMITIVES = {"broadcast_in_dim", "reshape", "squeeze", "convert_element_type", "neg"}


def _is_number(atom: Any) -> bool:
    return isinstance(atom, core.Literal) and np.ndim(atom.val) == 0
