"""Gates of a program, max(x, 0) and where(x > 0, x, …): how many of their entries are open."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.function.subject import Subject
from jaxnet.gradcheck.jaxpr.equations import (
    CALLS,
    JAX_FILES,
    evaluate,
    inputs_of,
    open_program,
    source_of,
    value_of,
)
from jaxnet.gradcheck.jaxpr.trace import Traced, compiled, walk
from jaxnet.gradcheck.kinks.branch_sites import Site, named, site_of

_COMPARISONS = {"gt", "ge", "lt", "le"}


class Gate(NamedTuple):
    """A gate on values that depend on the arguments, and how many entries are above zero."""

    site: Site
    size: int
    above: int


def gates(subject: Subject) -> list[Gate]:
    """Return the gates of f at its point; those inside of loops are not looked for."""
    if isinstance(subject.program, LoopProgram):
        return []
    program, traced = subject.program, subject.program.traced
    if not any(map(_may_gate, walk(traced.jaxpr))):
        return []
    counter = compiled(("gates", traced.code), lambda: _Counter(traced))
    with subject.scope():
        return counter(program.variables, program.constants)


class _Counter:
    """The program with the number of positive entries at each gate for its result."""

    def __init__(self, traced: Traced):
        self.traced = traced
        self.found: list[tuple[Site, int]] = []
        self.count = jax.jit(self._count, compiler_options={"xla_backend_optimization_level": 0})

    def __call__(self, variables: Sequence[Any], constants: Sequence[Any]) -> list[Gate]:
        above = self.count(self.traced.consts, variables, constants)
        pairs = zip(self.found, above, strict=True)
        return [Gate(site, size, int(n)) for (site, size), n in pairs]

    def _count(self, consts, variables, constants):
        values = jax.tree.leaves((variables, constants))
        moving = [True] * len(variables) + [False] * (len(values) - len(variables))
        found: list[tuple[Site, Any]] = []
        _walk(self.traced.jaxpr, consts, values, moving, None, {}, found)
        self.found = [(site, x.size) for site, x in found]
        return [jnp.sum(x > 0, dtype=jnp.int32) for _, x in found]


def _walk(program, consts, values, moving, caller, compared, found):
    """Evaluate the program, calls opened; return its results and which depend on the variables.

    `compared` has the operand of each comparison with zero, by the identity of its result.
    """
    env = dict(zip(inputs_of(program), (*consts, *values), strict=True))
    depends = {v for v, yes in zip(program.invars, moving, strict=True) if yes}

    def read(atom):
        return value_of(atom) if isinstance(atom, core.Literal) else env[atom]

    def varies(atom):
        return not isinstance(atom, core.Literal) and atom in depends

    for eqn in program.eqns:
        name, operands = eqn.primitive.name, [read(v) for v in eqn.invars]
        moves = [varies(v) for v in eqn.invars]
        site = caller or site_of(eqn)
        if name in CALLS and any(moves):
            inner, inner_consts = open_program(eqn.params[CALLS[name]])
            within = caller or (site if source_of(inner)[0].startswith(JAX_FILES) else None)
            results, moved = _walk(inner, inner_consts, operands, moves, within, compared, found)
        else:
            results, moved = evaluate(eqn, operands), [any(moves)] * len(eqn.outvars)
        if name == "max" and any(moves) and (gated := _beside_zero(eqn, operands)) is not None:
            found.append((named(site, eqn), gated))
        elif name in _COMPARISONS and any(moves):
            compared[id(results[0])] = (_beside_zero(eqn, operands), results[0])
        elif name == "select_n" and id(operands[0]) in compared:
            x, _ = compared[id(operands[0])]
            if x is not None and any(x is case for case in operands[1:]):
                found.append((named(site, eqn), x))
        env.update(zip(eqn.outvars, results, strict=True))
        depends.update(v for v, yes in zip(eqn.outvars, moved, strict=True) if yes)
    return [read(v) for v in program.outvars], [varies(v) for v in program.outvars]


def _beside_zero(eqn, operands) -> Any:
    """Return the array that meets the number 0, None if none does."""
    for (a, b), x in ((eqn.invars, operands[0]), (reversed(eqn.invars), operands[1])):
        if _is_zero(b) and not isinstance(a, core.Literal) and np.size(x) > 1:
            return x if jnp.issubdtype(x.dtype, jnp.floating) else None
    return None


def _is_zero(atom: Any) -> bool:
    return isinstance(atom, core.Literal) and np.ndim(atom.val) == 0 and bool(atom.val == 0)


def _may_gate(eqn: Any) -> bool:
    compares = eqn.primitive.name == "max" or eqn.primitive.name in _COMPARISONS
    return compares and any(map(_is_zero, eqn.invars))
