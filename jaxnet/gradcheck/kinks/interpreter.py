"""A traced program evaluated equation by equation, with a code for each of its branches."""

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
from jaxnet.gradcheck.kinks.branch_sites import BranchRecord, Visit, site_of
from jaxnet.gradcheck.kinks.loops import LOOPS

_SMOOTH = {"logaddexp", "logaddexp2", "softplus", "log_sigmoid", "sinc", "xlogy", "xlog1py"}
"""Functions of JAX that branch for the sake of rounding or range, and have no kink."""


def interpret(opened, values, depends, needed, caller, record):
    """Evaluate a program equation by equation; return its results and which of them vary.

    `opened` is the program and its constants. `depends` says which inputs vary with the float
    arguments, `needed` how each result is used. `caller` is the site that stands for everything
    inside a function of JAX; branches go into `record`.
    """
    program, consts = opened
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
        visit = Visit(
            eqn=eqn,
            operands=[read(v) for v in eqn.invars],
            varying=[varies(v) for v in eqn.invars],
            used=used,
            site=caller or site_of(eqn),
            caller=caller,
        )
        if not any(visit.varying):
            results, moves = evaluate(eqn, visit.operands), [False] * len(eqn.outvars)
        else:
            # Each equation gets a record of its own: one that raises halfway leaves no branch.
            part = BranchRecord()
            try:
                results, moves = _step(visit, part)
            except Exception:  # a primitive whose parameters this file does not know
                part = BranchRecord(unread=[visit.site.renamed(eqn)])
                results, moves = evaluate(eqn, visit.operands), [True] * len(eqn.outvars)
            record.add_all(part, part.codes)
        env.update(zip(eqn.outvars, results, strict=True))
        varying.update(v for v, yes in zip(eqn.outvars, moves, strict=True) if yes)
    alive = [isinstance(v, core.Literal) or v in env for v in program.outvars]
    results = [read(v) if yes else None for v, yes in zip(program.outvars, alive, strict=True)]
    return results, [varies(v) for v in program.outvars]


def _step(visit: Visit, record: BranchRecord):
    """Evaluate an equation that varies with x, and note its branches."""
    eqn, operands = visit.eqn, visit.operands
    name, params = eqn.primitive.name, eqn.params
    if name in CALLS:
        opened = open_program(params[CALLS[name]])
        file, function = source_of(opened[0])
        caller = visit.caller
        if file.startswith(JAX_FILES):
            # JAX caches the program of `jnp.where` with the line of the first call to it, so the
            # lines inside say nothing about this call.
            caller = caller or visit.site
            if function in _SMOOTH:
                return evaluate(eqn, operands), [True] * len(eqn.outvars)
        return interpret(opened, operands, visit.varying, visit.used, caller, record)
    if name in LOOPS:
        return LOOPS[name](interpret, visit, record)
    if name == "sort" and branch_rules.branches(name, operands, operands):
        results, codes, tied = branch_rules.sort(params, [*map(jnp.asarray, operands)])
        record.add(visit.site.renamed(eqn), codes, tied)
        return results, [True] * len(results)
    results = evaluate(eqn, operands)
    if name in branch_rules.OPAQUE or any(map(branch_rules.may_branch, programs_in(params))):
        record.unread.append(visit.site.renamed(eqn))
    elif name in branch_rules.RULES and _makes_kink(visit):
        codes, tied = branch_rules.RULES[name](params, [*map(jnp.asarray, operands)], results)
        record.add(visit.site.renamed(eqn), codes, tied)
    return results, [True] * len(results)


def _makes_kink(visit: Visit) -> bool:
    """Whether a branching primitive chooses by a value that varies, and the choice can kink."""
    eqn = visit.eqn
    name = eqn.primitive.name
    if name == "select_n" and not visit.varying[0]:
        return False
    if name in branch_rules.CONTINUOUS and max(visit.used) == STOPPED:
        return False
    if name in branch_rules.COMPARISONS and eqn.invars[0] is eqn.invars[1]:
        return False  # x != x asks for NaN
    return branch_rules.branches(name, types_of(eqn.invars), types_of(eqn.outvars))


def _levels(program, needed) -> dict[Any, int]:
    """Return how each variable of the program reaches its needed results.

    The equations are read backwards, each operand gets the best level of the results it feeds.
    """
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
            # An operand that the inner program ignores must still be evaluated: it is passed.
            least = STOPPED if any(used) else DEAD
            ins = [within.get(v, least) for v in inner.invars]
        else:
            level = DIFFERENTIABLE if writes(eqn) else max(used, default=DEAD)
            level = min(level, STOPPED) if name == "stop_gradient" else level
            ins = [level] * len(eqn.invars)
        for atom, level in zip(eqn.invars, ins, strict=True):
            raise_to(atom, level)
    return levels
