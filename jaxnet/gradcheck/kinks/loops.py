"""Branches inside scan, while and cond: each site gets one code, folded over all steps."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxnet.gradcheck.jaxpr.equations import DIFFERENTIABLE, count_pairs, open_program
from jaxnet.gradcheck.kinks.branch_rules import fold, fold_next
from jaxnet.gradcheck.kinks.branch_sites import BranchRecord, Visit


def _scan(walk, visit: Visit, record: BranchRecord):
    params, operands, varying = visit.eqn.params, visit.operands, visit.varying
    opened = body, _ = open_program(params["jaxpr"])
    # Stacked inputs and outputs have one axis more outside than inside.
    per_step = count_pairs(visit.eqn.invars, body.invars, lambda a, b: a.ndim != b.ndim)
    carried = count_pairs(visit.eqn.outvars, body.outvars, lambda a, b: a.ndim == b.ndim)
    fixed = len(operands) - carried - per_step
    # A carry counts as varying from the first step on: one trace of the body serves all steps.
    inner_varying = [*varying[:fixed], *[True] * carried, *varying[fixed + carried :]]
    needed = [max(visit.used)] * len(body.outvars)
    inner = BranchRecord()

    def step(carry, xs):
        inner.clear()
        values = [*operands[:fixed], *carry, *xs]
        outs, _ = walk(opened, values, inner_varying, needed, visit.caller, inner)
        return outs[:carried], (outs[carried:], inner.stacked())

    carry, (ys, codes) = lax.scan(
        step,
        operands[fixed : fixed + carried],
        operands[fixed + carried :],
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    record.add_all(inner, fold(codes))
    return [*carry, *ys], [True] * len(visit.eqn.outvars)


def _while(walk, visit: Visit, record: BranchRecord):
    params, operands, varying = visit.eqn.params, visit.operands, visit.varying
    test, body = open_program(params["cond_jaxpr"]), open_program(params["body_jaxpr"])
    a, b = params["cond_nconsts"], params["body_nconsts"]
    test_fixed, body_fixed, start = operands[:a], operands[a : a + b], operands[a + b :]
    carried = [True] * len(start)
    needed = [max(visit.used)] * len(start)
    inner = BranchRecord()

    def decide(carry, inner):
        values, depends = [*test_fixed, *carry], [*varying[:a], *carried]
        (go,), _ = walk(test, values, depends, [DIFFERENTIABLE], visit.caller, inner)
        return go

    def step(carry):
        inner.clear()
        decide(carry, inner)
        values, depends = [*body_fixed, *carry], [*varying[a : a + b], *carried]
        return walk(body, values, depends, needed, visit.caller, inner)[0]

    # The number of sites must be known before the loop is built: its carry holds their codes.
    jax.eval_shape(step, start)
    total = jnp.zeros(len(inner.sites), jnp.uint32)

    def step_and_fold(state):
        carry = step(state[0])
        return carry, fold_next(state[1], inner.stacked())

    carry, total = lax.while_loop(
        lambda state: decide(state[0], BranchRecord()), step_and_fold, (start, total)
    )
    # The test that ends the loop has branches, too.
    last = BranchRecord()
    decide(carry, last)
    padded = jnp.zeros_like(total).at[: len(last.sites)].set(last.stacked())
    record.add_all(inner, fold_next(total, padded))
    return carry, carried


def _cond(walk, visit: Visit, record: BranchRecord):
    index, *operands = visit.operands
    opened = [open_program(branch) for branch in visit.eqn.params["branches"]]
    inner = [BranchRecord() for _ in opened]

    def branch(i):
        def run(*values):
            inner[i].clear()
            needed = [max(visit.used)] * len(opened[i][0].outvars)
            return walk(opened[i], values, visit.varying[1:], needed, visit.caller, inner[i])[0]

        return run

    for i in range(len(opened)):
        jax.eval_shape(branch(i), *operands)

    def padded_branch(i):
        """Return the branch with codes for the sites of all branches: switch wants equal shapes."""

        def run(*values):
            outs = branch(i)(*values)
            codes = [jnp.zeros(len(other.sites), jnp.uint32) for other in inner]
            codes[i] = inner[i].stacked()
            return outs, jnp.concatenate(codes)

        return run

    results, codes = lax.switch(index, [padded_branch(i) for i in range(len(opened))], *operands)
    if visit.varying[0]:
        code = jnp.asarray(index).astype(jnp.uint32)
        record.add(visit.site.renamed(visit.eqn), code, jnp.array(False))
    start = 0
    for part in inner:
        record.add_all(part, codes[start:])
        start += len(part.sites)
    return results, [True] * len(results)


LOOPS = {"scan": _scan, "while": _while, "cond": _cond}
"""Primitive -> function(walk, visit, record) that returns results and which of them vary."""
