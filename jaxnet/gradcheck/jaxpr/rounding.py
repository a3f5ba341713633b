"""How much of a result is rounding: the program runs again with random rounding errors.

Each floating-point result moves by one ulp, up or down; a result that moves by its own size has no
right digit. This is stochastic arithmetic, Vignes 1993 (CADNA). An exact run goes along and decides
branches, comparisons and integers, so that no tie breaks. Interval arithmetic was rejected: its
bounds grow with every operation, and call long sums meaningless that are right to many digits.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxnet.gradcheck.jaxpr.equations import evaluate, is_inexact
from jaxnet.gradcheck.jaxpr.recompute import recompute
from jaxnet.gradcheck.jaxpr.trace import TracedProgram, compiled, roundoff_of

SAMPLES = 8  # random runs: the largest of their moves is what counts

_EXACT = {
    *("neg", "abs", "sign", "max", "min", "clamp", "floor", "ceil", "round", "copy", "real"),
    *("imag", "reshape", "broadcast_in_dim", "transpose", "slice", "dynamic_slice", "squeeze"),
    *("dynamic_update_slice", "gather", "scatter", "concatenate", "split", "rev", "pad"),
    *("select_n", "stop_gradient", "reduce_max", "reduce_min", "cummax", "cummin", "sort", "iota"),
    *("bitcast_convert_type", "reduce_window_max", "reduce_window_min", "optimization_barrier"),
}
"""Primitives that move or choose numbers and round nothing."""


class Perturbed(NamedTuple):
    """A number of the exact run beside the same number of the run with random rounding."""

    exact: Any
    moved: Any


def rounding_of(traced: TracedProgram, *inputs: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the results of a program, and the most that each entry moves by rounding."""
    function = compiled(("rounding", traced.code), lambda: _compile(traced))
    results, moves = function(traced.consts, inputs)
    return [np.asarray(r) for r in results], [np.asarray(m, np.float64) for m in moves]


def rounding(subject: Any, traced: TracedProgram, *inputs: Any) -> list[np.ndarray] | None:
    """Return how much the results of a program move, or None where it cannot be rerun."""
    with subject.scope():
        try:
            return rounding_of(traced, *inputs)[1]
        except Exception:  # a callback or an effect, which runs whole, but not equation by equation
            return None


def _compile(traced: TracedProgram):
    def run(consts, inputs):
        flat = jax.tree.leaves(inputs)

        def sample(seed):
            results = _moved(traced.jaxpr, consts, flat, seed)
            exact = [r.exact if isinstance(r, Perturbed) else r for r in results]
            moves = [
                abs(r.moved - r.exact)
                if isinstance(r, Perturbed)
                else jnp.zeros(jnp.shape(r), np.float32)
                for r in results
            ]
            return exact, moves

        # `map` keeps one sample in memory at a time, and compiles the program once.
        seeds = jnp.arange(1, SAMPLES + 1, dtype=jnp.uint32)
        exact, moves = jax.lax.map(sample, seeds)
        return [e[0] for e in exact], [m.max(axis=0) for m in moves]

    return jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})


def _moved(program: Any, consts: Sequence[Any], values: Sequence[Any], seed: Any) -> list[Any]:
    salts = iter(range(1, 1 << 30))

    def lift(value):
        floating = jnp.issubdtype(getattr(value, "dtype", np.float32), np.inexact)
        return Perturbed(value, value) if floating else value

    def step(eqn, operands):
        exact = evaluate(eqn, [o.exact if isinstance(o, Perturbed) else o for o in operands])
        if not any(map(_rounds, eqn.outvars)):
            return exact
        moved = evaluate(eqn, [o.moved if isinstance(o, Perturbed) else o for o in operands])
        results = []
        for variable, e, m in zip(eqn.outvars, exact, moved, strict=True):
            if e is None or not is_inexact(variable):
                results.append(e)
                continue
            if eqn.primitive.name not in _EXACT:
                ulp = np.asarray(2 * roundoff_of(eqn, m.dtype), m.dtype)
                m = m * (1 + ulp * _signs(jnp.shape(m), seed, next(salts), m.dtype))
            results.append(Perturbed(e, m))
        return results

    return recompute(program, consts, [lift(v) for v in values], step, lift, lambda eqn: True)


def _rounds(variable: Any) -> bool:
    """Whether an output of an equation is used and floating-point."""
    return not isinstance(variable, core.DropVar) and is_inexact(variable)


def _signs(shape: tuple[int, ...], seed: Any, salt: int, dtype: Any) -> Any:
    """Return 1 or −1 for each position, drawn by a hash of seed, equation and position.

    A hash is cheaper to trace than jax.random, of which each equation would need a call.
    """
    size = int(np.prod(shape))
    x = jnp.arange(size, dtype=jnp.uint32) + seed * np.uint32(0x9E3779B9)
    x = (x + np.uint32(salt * 0x85EBCA6B & 0xFFFFFFFF)) * np.uint32(0x9E3779B1)
    x = (x ^ (x >> 15)) * np.uint32(0x85EBCA6B)
    up = ((x ^ (x >> 13)) >> 7) & 1
    return jnp.where(up == 1, 1.0, -1.0).astype(dtype).reshape(shape)
