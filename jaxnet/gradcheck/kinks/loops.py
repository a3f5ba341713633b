"""Branches inside of scan, while and cond: the winners of all steps, folded."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxnet.gradcheck.jaxpr.equations import DIFFERENTIABLE, count_pairs, open_program
from jaxnet.gradcheck.kinks import branch_rules
from jaxnet.gradcheck.kinks.branch_sites import Found, named


def _scan(walk, eqn, operands, moving, used, site, caller, found):
    body, consts = open_program(eqn.params["jaxpr"])
    # Stacked inputs and outputs have one axis more outside than inside.
    per_step = count_pairs(eqn.invars, body.invars, lambda outer, inner: outer.ndim != inner.ndim)
    carried = count_pairs(eqn.outvars, body.outvars, lambda outer, inner: outer.ndim == inner.ndim)
    fixed = len(operands) - carried - per_step
    depends = [*moving[:fixed], *[True] * carried, *moving[fixed + carried :]]
    inner = Found()

    def step(carry, xs):
        inner.clear()
        values = [*operands[:fixed], *carry, *xs]
        outs, _ = walk(body, consts, values, depends, [used] * len(body.outvars), caller, inner)
        return outs[:carried], (outs[carried:], inner.stacked())

    carry, (ys, codes) = lax.scan(
        step,
        operands[fixed : fixed + carried],
        operands[fixed + carried :],
        length=eqn.params["length"],
        reverse=eqn.params["reverse"],
        unroll=eqn.params["unroll"],
    )
    found.add_all(inner, branch_rules.fold(codes))
    return [*carry, *ys], [True] * len(eqn.outvars)


def _while(walk, eqn, operands, moving, used, site, caller, found):
    test, test_consts = open_program(eqn.params["cond_jaxpr"])
    body, body_consts = open_program(eqn.params["body_jaxpr"])
    a, b = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    test_fixed, body_fixed, start = operands[:a], operands[a : a + b], operands[a + b :]
    carried = [True] * len(start)
    inner = Found()

    def decide(carry, inner):
        depends = [*moving[:a], *carried]
        (go,), _ = walk(
            test, test_consts, [*test_fixed, *carry], depends, [DIFFERENTIABLE], caller, inner
        )
        return go

    def step(carry):
        inner.clear()
        decide(carry, inner)
        depends, needed = [*moving[a : a + b], *carried], [used] * len(carried)
        return walk(body, body_consts, [*body_fixed, *carry], depends, needed, caller, inner)[0]

    jax.eval_shape(step, start)
    total = jnp.zeros(len(inner.sites), jnp.uint32)

    def step_and_fold(state):
        carry = step(state[0])
        return carry, branch_rules.fold_next(state[1], inner.stacked())

    carry, total = lax.while_loop(
        lambda state: decide(state[0], Found()), step_and_fold, (start, total)
    )
    # The test that ends the loop has winners too.
    last = Found()
    decide(carry, last)
    padded = jnp.zeros_like(total).at[: len(last.sites)].set(last.stacked())
    found.add_all(inner, branch_rules.fold_next(total, padded))
    return carry, [True] * len(carry)


def _cond(walk, eqn, operands, moving, used, site, caller, found):
    index, *operands = operands
    opened = [open_program(branch) for branch in eqn.params["branches"]]
    inner = [Found() for _ in opened]

    def take(i):
        def branch(*values):
            inner[i].clear()
            program, consts = opened[i]
            needed = [used] * len(program.outvars)
            outs, _ = walk(program, consts, values, moving[1:], needed, caller, inner[i])
            return outs

        return branch

    for i in range(len(opened)):
        jax.eval_shape(take(i), *operands)

    def take_and_pad(i):
        def branch(*values):
            outs = take(i)(*values)
            parts = [jnp.zeros(len(other.sites), jnp.uint32) for other in inner]
            parts[i] = inner[i].stacked()
            return outs, jnp.concatenate(parts)

        return branch

    results, codes = lax.switch(index, [take_and_pad(i) for i in range(len(opened))], *operands)
    if moving[0]:
        taken = jnp.asarray(index).astype(jnp.uint32)
        found.add(named(site, eqn), taken, jnp.array(False))
    start = 0
    for part in inner:
        found.add_all(part, codes[start:])
        start += len(part.sites)
    return results, [True] * len(results)


LOOPS = {"scan": _scan, "while": _while, "cond": _cond}
