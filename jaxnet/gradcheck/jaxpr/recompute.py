"""A program run again with other equations: inner programs are opened, loops built anew.

Values may be pytrees, such as a number beside its perturbed copy, as long as every carry keeps its
structure.
"""

from collections.abc import Callable
from typing import Any

from jax import lax
from jax.extend import core

from jaxnet.gradcheck.jaxpr.equations import CALLS, count_pairs, inputs_of, open_program, value_of

Step = Callable[[Any, list[Any]], list[Any]]
"""step(equation, operands) -> results, for an equation without a program inside."""

Opens = Callable[[Any], bool]
"""opens(equation) -> whether to run its inner program in its place."""


def recompute(program: Any, consts: Any, values: Any, step: Step, lift: Callable, opens: Opens):
    """Evaluate a program equation by equation with `step`; `lift` makes values of arrays."""
    env = dict(zip(inputs_of(program), (*map(lift, consts), *values), strict=True))

    def again(inner, operands):
        opened, inner_consts = open_program(inner)
        return recompute(opened, inner_consts, operands, step, lift, opens)

    for eqn in program.eqns:
        operands = [
            lift(value_of(v)) if isinstance(v, core.Literal) else env[v] for v in eqn.invars
        ]
        name = eqn.primitive.name
        if name in CALLS and CALLS[name] in eqn.params and opens(eqn):
            results = again(eqn.params[CALLS[name]], operands)
        elif name in _LOOPS:
            results = _LOOPS[name](eqn, operands, again)
        else:
            results = step(eqn, operands)
        env.update(zip(eqn.outvars, results, strict=True))
    return [lift(value_of(v)) if isinstance(v, core.Literal) else env[v] for v in program.outvars]


def _scan(eqn, operands, again):
    params, (body_program, _) = eqn.params, open_program(eqn.params["jaxpr"])
    per_step = count_pairs(eqn.invars, body_program.invars, lambda a, b: a.ndim != b.ndim)
    carried = count_pairs(eqn.outvars, body_program.outvars, lambda a, b: a.ndim == b.ndim)
    fixed = len(operands) - carried - per_step

    def body(carry, xs):
        outs = again(params["jaxpr"], [*operands[:fixed], *carry, *xs])
        return outs[:carried], outs[carried:]

    carry, ys = lax.scan(
        body,
        operands[fixed : fixed + carried],
        operands[fixed + carried :],
        length=params["length"],
        reverse=params["reverse"],
    )
    return [*carry, *ys]


def _while(eqn, operands, again):
    params = eqn.params
    a, b = params["cond_nconsts"], params["body_nconsts"]
    test, body, start = operands[:a], operands[a : a + b], operands[a + b :]
    return lax.while_loop(
        lambda carry: again(params["cond_jaxpr"], [*test, *carry])[0],
        lambda carry: again(params["body_jaxpr"], [*body, *carry]),
        start,
    )


def _cond(eqn, operands, again):
    index, *rest = operands
    branches = [
        lambda *values, inner=branch: again(inner, [*values]) for branch in eqn.params["branches"]
    ]
    return lax.switch(index, branches, *rest)


_LOOPS = {"scan": _scan, "while": _while, "cond": _cond}
