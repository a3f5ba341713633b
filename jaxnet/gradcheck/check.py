"""The entry points: check a gradient, and assert that one is right."""

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
from jaxnet.gradcheck.point.check_point import check_point
from jaxnet.gradcheck.point.second_order import check_second_order
from jaxnet.gradcheck.report import FAIL, INCONCLUSIVE, GradientReport, worst_of


@contextlib.contextmanager
def _without_debug_flags() -> Iterator[None]:
    """Lift warnings and debugging flags of JAX: the report itself names NaN and infinities.

    The check reads values from the device and runs traced functions, so flags that forbid either
    are lifted, too.
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
@_without_debug_flags()
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

    Every floating-point leaf of the tuple `args` is differentiated, or of the arguments `argnums`
    only; integers, booleans, keys, None and strings are constants. Outputs that are no scalars are
    weighted by `cotangent`, random by default. The check runs in float64 whatever JAX's setting
    is, and compares the gradient in the arguments' own dtype with the float64 one.

    `mode` is "directional" (its cost does not grow with the number of parameters), "sampled" (it
    measures some entries of each leaf, too) or "full" (every entry). `order=2` checks second
    derivatives, too. Gradients of the leaves named in `live` must not be zero.
    `expected="surrogate"` declares a gradient that is no derivative on purpose (straight-through),
    which is compared with autodiff only. `jitter` repeats the check at a point nearby, away from
    zeros and ones.

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
    report = check_point(subject, options)
    report = _fail_dead_leaves(report, live)
    if jitter and report.verdict != INCONCLUSIVE:
        moved = subject.nearby(np.random.default_rng([seed, 99]), 0.1)
        other = check_point(moved, options)
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

    The first line of the error names a leaf and the cause, and the report follows. In pytest it
    points to the line of the test.

    >>> import jax.numpy as jnp
    >>> assert_grads(jnp.tanh, (jnp.array([0.3, -2.0]),)).verdict
    'PASS'
    """
    __tracebackhide__ = True  # pytest then hides this frame
    try:
        report = check_grads(f, args, **settings)
    except JaxnetError as error:
        raise error.with_traceback(None)  # noqa: B904  (the same error, without frames of jaxnet)
    if not report:
        raise AssertionError(f"{report.cause()}\n{report}")
    return report


def _fail_dead_leaves(report: GradientReport, live: Collection[str]) -> GradientReport:
    """Fail leaves with a zero gradient that are declared live."""
    leaves = []
    for leaf in report.leaves:
        if leaf.norm == 0 and any(is_named(wish, leaf.path) for wish in live):
            leaf = replace(leaf, verdict=FAIL, reason="declared live, but its gradient is zero")
        leaves.append(leaf)
    verdict = worst_of(report.verdict, *(leaf.verdict for leaf in leaves))
    return replace(report, leaves=tuple(leaves), verdict=verdict)
