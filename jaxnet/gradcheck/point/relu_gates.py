"""Gates of a program, max(x, 0) and where(x > 0, x, …), and how many of their entries are open."""

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
from jaxnet.gradcheck.jaxpr.trace import TracedProgram, compiled, walk
from jaxnet.gradcheck.kinks.branch_sites import Site, site_of

_COMPARISONS = {"gt", "ge", "lt", "le"}


class Gate(NamedTuple):
    """A gate on values that depend on the arguments, with the count of its entries above zero."""

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

    def __init__(self, traced: TracedProgram):
        self.traced = traced
        self.sizes: list[tuple[Site, int]] = []
        self.count = jax.jit(self._count, compiler_options={"xla_backend_optimization_level": 0})

    def __call__(self, variables: Sequence[Any], constants: Sequence[Any]) -> list[Gate]:
        above = self.count(self.traced.consts, variables, constants)
        pairs = zip(self.sizes, above, strict=True)
        return [Gate(site, size, int(n)) for (site, size), n in pairs]

    def _count(self, consts, variables, constants):
        values = jax.tree.leaves((variables, constants))
        varying = [True] * len(variables) + [False] * (len(values) - len(variables))
        search = _Search()
        search.walk((self.traced.jaxpr, consts), values, varying, None)
        # Sizes are known when the program is traced, counts when it runs.
        self.sizes = [(site, x.size) for site, x in search.gates]
        return [jnp.sum(x > 0, dtype=jnp.int32) for _, x in search.gates]


class _Search:
    """A walk through a program that collects its gates.

    `compared` has the operand of each comparison with zero, by the identity of its result: a
    `where` opens by a comparison that stands earlier in the program. The result is held beside it,
    since an identity is free again once its object is gone.
    """

    def __init__(self):
        self.gates: list[tuple[Site, Any]] = []
        self.compared: dict[int, tuple[Any, Any]] = {}

    def walk(self, opened, values, depends, caller):
        """Evaluate a program, calls opened; return its results and which of them vary."""
        program, consts = opened
        env = dict(zip(inputs_of(program), (*consts, *values), strict=True))
        varying = {v for v, yes in zip(program.invars, depends, strict=True) if yes}

        def read(atom):
            return value_of(atom) if isinstance(atom, core.Literal) else env[atom]

        def varies(atom):
            return not isinstance(atom, core.Literal) and atom in varying

        for eqn in program.eqns:
            operands = [read(v) for v in eqn.invars]
            moves = [varies(v) for v in eqn.invars]
            site, name = caller or site_of(eqn), eqn.primitive.name
            if name in CALLS and any(moves):
                inner = open_program(eqn.params[CALLS[name]])
                within = caller or (site if source_of(inner[0])[0].startswith(JAX_FILES) else None)
                results, moved = self.walk(inner, operands, moves, within)
            else:
                results, moved = evaluate(eqn, operands), [any(moves)] * len(eqn.outvars)
            if any(moves):
                self._note(eqn, operands, results, site)
            env.update(zip(eqn.outvars, results, strict=True))
            varying.update(v for v, yes in zip(eqn.outvars, moved, strict=True) if yes)
        return [read(v) for v in program.outvars], [varies(v) for v in program.outvars]

    def _note(self, eqn, operands, results, site: Site) -> None:
        """Note a gate, or a comparison that may be the condition of one."""
        name = eqn.primitive.name
        if name == "max" and (x := _beside_zero(eqn, operands)) is not None:
            self.gates.append((site.renamed(eqn), x))
        elif name in _COMPARISONS:
            self.compared[id(results[0])] = (_beside_zero(eqn, operands), results[0])
        elif name == "select_n" and id(operands[0]) in self.compared:
            x, _ = self.compared[id(operands[0])]
            if x is not None and any(x is case for case in operands[1:]):
                self.gates.append((site.renamed(eqn), x))


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
