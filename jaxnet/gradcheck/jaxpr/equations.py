"""Equations of a traced program: what they hold, how to evaluate them, where they come from."""

import os
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import eval_jaxpr
from jax.extend import core

DEAD, STOPPED, DIFFERENTIABLE = 0, 1, 2
"""Levels at which a value reaches the result: not at all, through stop_gradient only, freely."""

CALLS = {
    **dict.fromkeys(("jit", "pjit", "remat", "remat2", "checkpoint"), "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call"), "call_jaxpr"),
    **dict.fromkeys(("custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
    "custom_vmap_call": "call",
}
"""Primitive that runs a program once -> the parameter that holds the program."""


def evaluate(eqn, operands) -> list[Any]:
    """Evaluate one equation as JAX does, whatever its primitive."""
    # `eval_jaxpr` knows every primitive, so the equation is wrapped in a program of its own.
    pairs = zip(eqn.invars, operands, strict=True)
    slots = {v: operand for v, operand in pairs if not isinstance(v, core.Literal)}
    results = [v for v in eqn.outvars if not isinstance(v, core.DropVar)]
    name = eqn.primitive.name
    about = core.DebugInfo("signature", name, ("",) * len(slots), ("",) * len(results))
    single = core.Jaxpr((), list(slots), results, [eqn], eqn.effects, about)
    values = dict(zip(results, eval_jaxpr(single, (), *slots.values()), strict=True))
    return [values.get(v) for v in eqn.outvars]


def open_program(closed) -> tuple[core.Jaxpr, Sequence[Any]]:
    """Return a program and its constants; before jax 0.11 a ClosedJaxpr holds them."""
    return getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())


def inputs_of(program) -> list[core.Var]:
    """Return the variables that a program is called with, constants first."""
    return [*program.constvars, *program.invars]


def programs_in(params):
    """Yield the programs among the parameters of an equation, also those in tuples."""
    for value in jax.tree.leaves(list(params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
        if hasattr(value, "eqns"):
            yield open_program(value)[0]


def writes(eqn) -> bool:
    """Whether the equation changes a mutable array: then it matters though no result is used."""
    return bool(eqn.effects) and any(map(is_mutable, eqn.invars))


def is_mutable(atom) -> bool:
    """Whether a variable stands for an array that is changed in place."""
    return "Ref" in type(atom.aval).__name__


def value_of(literal: core.Literal) -> np.ndarray:
    """Return a literal as an array of its dtype."""
    aval: Any = literal.aval
    return np.asarray(literal.val, aval.dtype)


def types_of(atoms) -> list[Any]:
    """Return the shapes and dtypes of variables."""
    return [atom.aval for atom in atoms]


def is_inexact(atom: Any) -> bool:
    """Whether a variable is floating-point or complex."""
    return jnp.issubdtype(atom.aval.dtype, np.inexact)


JAX_FILES = os.path.dirname(jax.__file__) + os.sep


def source_of(program) -> tuple[str, str]:
    """Return the file and the name of the Python function that a program was traced from."""
    text = getattr(program.debug_info, "func_src_info", None) or ""
    match = re.match(r"(?P<name>.+?) at (?P<file>.+):\d+$", text)
    return (match["file"], match["name"]) if match else ("", "")


def count_pairs(outer, inner, condition) -> int:
    """Count the pairs of variables, outside and inside a loop, whose types meet a condition."""
    return sum(condition(a.aval, b.aval) for a, b in zip(outer, inner, strict=True))
