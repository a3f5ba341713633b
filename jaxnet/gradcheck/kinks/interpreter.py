"""A program evaluated equation by equation, with the winner at each of its branch_rules."""

from typing import Any

import jax.numpy as jnp
from jax.extend import core

from jaxnet.gradcheck.jaxpr.equations import (
    CALLS,
    DEAD,
    DIFFERENTIABLE,
    JAX_FILES,
    STOPPED,
    evaluate,
    inputs_of,
    is_mutable,
    open_program,
    programs_in,
    source_of,
    types_of,
    value_of,
    writes,
)
from jaxnet.gradcheck.kinks import branch_rules
from jaxnet.gradcheck.kinks.branch_rules import may_branch
from jaxnet.gradcheck.kinks.branch_sites import Found, named, site_of
from jaxnet.gradcheck.kinks.loops import LOOPS

_SMOOTH = {"logaddexp", "logaddexp2", "softplus", "log_sigmoid", "sinc", "xlogy", "xlog1py"}
"""Functions of JAX that branch for the sake of rounding or range, and have no kink."""


def interpret(program, consts, values, depends, needed, caller, found):
    """Evaluate the program equation by equation; return its results and which depend on x.

    `depends` says which inputs vary with the float arguments, `needed` how each result is used,
    `caller` the site that stands for everything inside a function of JAX.
    """
    levels = _levels(program, needed)
    env = dict(zip(inputs_of(program), (*consts, *values), strict=True))
    varying = {v for v, yes in zip(program.invars, depends, strict=True) if yes}

    def read(atom):
        return value_of(atom) if isinstance(atom, core.Literal) else env[atom]

    def varies(atom):
        return not isinstance(atom, core.Literal) and (atom in varying or is_mutable(atom))

    for eqn in program.eqns:
        used = [levels.get(v, DEAD) for v in eqn.outvars]
        if not any(used) and not writes(eqn):
            continue
        operands = [read(v) for v in eqn.invars]
        moving = [varies(v) for v in eqn.invars]
        site = caller or site_of(eqn)
        if not any(moving):
            results, moved = evaluate(eqn, operands), [False] * len(eqn.outvars)
        else:
            part = Found()
            try:
                results, moved = _step(eqn, operands, moving, used, site, caller, part)
            except Exception:  # a primitive whose parameters this file does not know
                part = Found(unread=[named(site, eqn)])
                results, moved = evaluate(eqn, operands), [True] * len(eqn.outvars)
            found.add_all(part, part.codes)
        env.update(zip(eqn.outvars, results, strict=True))
        varying.update(v for v, yes in zip(eqn.outvars, moved, strict=True) if yes)
    alive = [isinstance(v, core.Literal) or v in env for v in program.outvars]
    results = [read(v) if yes else None for v, yes in zip(program.outvars, alive, strict=True)]
    return results, [varies(v) for v in program.outvars]


def _step(eqn, operands, moving, used, site, caller, found):
    """Evaluate one equation that varies with x, its branches into `found`."""
    name, params = eqn.primitive.name, eqn.params
    if name in CALLS:
        inner, consts = open_program(params[CALLS[name]])
        file, function = source_of(inner)
        if file.startswith(JAX_FILES):
            # JAX caches the program of `jnp.where` with the line of the first call to it.
            caller = caller or site
            if function in _SMOOTH:
                return evaluate(eqn, operands), [True] * len(eqn.outvars)
        return interpret(inner, consts, operands, moving, used, caller, found)
    if name in LOOPS:
        return LOOPS[name](interpret, eqn, operands, moving, max(used), site, caller, found)
    if name == "sort" and branch_rules.branches(name, operands, operands):
        results, codes, tied = branch_rules.sort(params, [*map(jnp.asarray, operands)])
        found.add(named(site, eqn), codes, tied)
        return results, [True] * len(results)
    results = evaluate(eqn, operands)
    if name in branch_rules.OPAQUE or any(map(may_branch, programs_in(params))):
        found.unread.append(named(site, eqn))
    elif name in branch_rules.RULES and _is_site(eqn, moving, max(used)):
        codes, tied = branch_rules.RULES[name](params, [*map(jnp.asarray, operands)], results)
        found.add(named(site, eqn), codes, tied)
    return results, [True] * len(results)


def _is_site(eqn, moving, used) -> bool:
    name = eqn.primitive.name
    if name == "select_n" and not moving[0]:
        return False
    if name in branch_rules.CONTINUOUS and used == STOPPED:
        return False
    if name in branch_rules.COMPARISONS and eqn.invars[0] is eqn.invars[1]:
        return False  # x != x asks for NaN
    return branch_rules.branches(name, types_of(eqn.invars), types_of(eqn.outvars))


def _levels(program, needed) -> dict[Any, int]:
    """Return how each variable of the program reaches its needed results."""
    levels = {}

    def raise_to(atom, level):
        if not isinstance(atom, core.Literal):
            levels[atom] = max(level, levels.get(atom, DEAD))

    for atom, level in zip(program.outvars, needed, strict=True):
        raise_to(atom, level)
    for eqn in reversed(program.eqns):
        used = [levels.get(v, DEAD) for v in eqn.outvars]
        name = eqn.primitive.name
        if name in CALLS and CALLS[name] in eqn.params:
            inner, _ = open_program(eqn.params[CALLS[name]])
            within = _levels(inner, used)
            # An operand that the program ignores is still an operand.
            least = STOPPED if any(used) else DEAD
            ins = [within.get(v, least) for v in inner.invars]
        else:
            level = DIFFERENTIABLE if writes(eqn) else max(used, default=DEAD)
            level = min(level, STOPPED) if name == "stop_gradient" else level
            ins = [level] * len(eqn.invars)
        for atom, level in zip(eqn.invars, ins, strict=True):
            raise_to(atom, level)
    return levels
