"""Check a gradient: the entry points."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxnet.arguments.signatures import checked
from jaxnet.errors import JaxnetError
from jaxnet.gradcheck.function.arguments import take_apart
from jaxnet.gradcheck.function.subject import Problem, prepare
from jaxnet.gradcheck.input_checks import (
    demand_budget,
    demand_functions,
    demand_live,
    demand_weights,
    is_named,
)
from jaxnet.gradcheck.options import CheckOptions
from jaxnet.gradcheck.point.check_point import run
from jaxnet.gradcheck.point.second_order import check_second_order
from jaxnet.gradcheck.report import FAIL, INCONCLUSIVE, GradientReport, worst_of


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave it to the report to tell of NaN and infinities: no warning, no debugging flag of JAX.

    Values are read from the device and traced functions are run, so flags that forbid either are
    lifted, too.
    """
    with (
        np.errstate(all="ignore"),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.disable_jit(False),
        jax.transfer_guard("allow"),
    ):
        yield


@checked
@_undisturbed()
def check_grads(
    f: Callable,
    args: Any,
    *,
    grad: Callable | None = None,
    reference: Callable | None = None,
    backward: Callable | None = None,
    mode: str = "directional",
    directions: int = 8,
    samples: int = 32,
    seed: int = 0,
    float32_only: bool = False,
    order: int = 1,
    has_aux: bool = False,
    argnums: int | Sequence[int] | None = None,
    live: Collection[str] = (),
    expected: str | None = None,
    jitter: bool = False,
    cotangent: Any = None,
    memory: int = 1 << 28,
    max_evaluations: int = 2_000_000,
) -> GradientReport:
    """Compare a gradient with autodiff and with numeric derivatives of known error.

    Under test is `grad(*args)`, the hand-written gradient of a scalar f (a tuple with one entry
    per argument, or bare for one argument), or `backward(dout, cache)` where f returns
    (out, cache), or else JAX's own gradient of f with its custom rules. `reference` is a plain
    function of the same values; its autodiff is the second opinion on a custom rule.

    Every floating-point leaf of the tuple `args` is differentiated, or those of `argnums`;
    integers, booleans, keys, None and strings are constants. Outputs that are no scalars are
    weighted by `cotangent`, random by default. The check runs in float64 whatever JAX's setting
    is, and the gradient in the arguments' own dtype is compared with that.

    `mode` is "directional" (cost independent of the number of parameters), "sampled" (and some
    entries of each leaf) or "full" (every entry). `order=2` checks second derivatives too.
    Gradients of the leaves named in `live` must not be zero. `expected="surrogate"` declares a
    gradient that is not the derivative (straight-through): it is compared with autodiff only.
    `jitter` repeats the check at a point nearby, away from zeros and ones.

    >>> import jax.numpy as jnp
    >>> report = check_grads(lambda x: jnp.sum(x**2), (jnp.arange(3.0),), grad=lambda x: x)
    >>> report.verdict, report.leaves[0].hint
    ('FAIL', 'factor 0.5 = 1/2: the 2 of a square forgotten, or a ½ too many')
    """
    started = time.perf_counter()
    demand_functions(f, grad, backward)
    options = CheckOptions(
        mode=mode,
        directions=directions,
        samples=samples,
        seed=seed,
        order=order,
        expected=expected,
    )
    demand_weights(cotangent)
    arguments = take_apart(f, args, argnums)
    demand_live(live, [leaf.path for leaf in arguments.leaves])
    problem = Problem(
        f=f,
        arguments=arguments,
        grad=grad,
        backward=backward,
        reference=reference,
        has_aux=has_aux,
        memory=memory,
        cotangent=cotangent,
        seed=seed,
    )
    subject = prepare(problem, float32_only)
    demand_budget(subject, options, max_evaluations)
    report = run(subject, options)
    report = _alive(report, live)
    if jitter and report.verdict != INCONCLUSIVE:
        moved = subject.moved(np.random.default_rng([seed, 99]), 0.1)
        other = run(moved, options)
        verdict = worst_of(report.verdict, other.verdict)
        report = replace(report, jittered=other, verdict=verdict)
    if order == 2:
        second = check_second_order(subject, options)
        report = replace(
            report, second_order=second, verdict=worst_of(report.verdict, second.verdict)
        )
    report = replace(
        report,
        seconds=time.perf_counter() - started,
        evaluations=report.evaluations + (getattr(report.jittered, "evaluations", 0)),
    )
    return report


def assert_grads(f: Callable, args: Any, **settings: Any) -> GradientReport:
    """Raise AssertionError unless `check_grads` gives PASS or KINK.

    Its first line names a leaf and the cause, the report follows; pytest shows the test's own line.

    >>> import jax.numpy as jnp
    >>> assert_grads(jnp.tanh, (jnp.array([0.3, -2.0]),)).verdict
    'PASS'
    """
    __tracebackhide__ = True  # pytest leaves this frame out
    try:
        report = check_grads(f, args, **settings)
    except JaxnetError as error:
        raise error.with_traceback(None)  # noqa: B904  (the same error, without frames of jaxnet)
    if not report:
        raise AssertionError(f"{report.cause()}\n{report}")
    return report


def _alive(report: GradientReport, live: Collection[str]) -> GradientReport:
    leaves = []
    for leaf in report.leaves:
        if leaf.norm == 0 and any(is_named(wish, leaf.path) for wish in live):
            leaf = replace(leaf, verdict=FAIL, reason="declared live, but its gradient is zero")
        leaves.append(leaf)
    verdict = worst_of(report.verdict, *(leaf.verdict for leaf in leaves))
    return replace(report, leaves=tuple(leaves), verdict=verdict)
