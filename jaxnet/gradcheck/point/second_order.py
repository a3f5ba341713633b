"""Second derivatives: the gradient's own gradient against differences of the gradient."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck.function.gradients import autodiff
from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.function.subject import Problem, Subject, caller, prepare, pull_back
from jaxnet.gradcheck.options import CheckOptions
from jaxnet.gradcheck.point.check_point import check_point
from jaxnet.gradcheck.point.exact_checks import gap_of_sums
from jaxnet.gradcheck.report import ExactCheck, GradientReport, with_verdict


def check_second_order(subject: Subject, options: CheckOptions) -> GradientReport:
    """Check H·w = d<g, w>/dx for the gradient g of f and random w, and <u, H w> = <w, H u>.

    The function g is checked like any other, with weights w as its cotangent.
    """
    if isinstance(subject.program, LoopProgram):
        raise ConfigurationError("order=2 needs a function that JAX can trace: use order=1")
    problem, weights = subject.problem, subject.program.cotangent
    call = caller(problem)

    def gradient(*args):
        """Return the gradients of all leaves, in a list."""
        flat = jax.tree.leaves(args, is_leaf=lambda x: x is None)
        variables = [jnp.asarray(flat[leaf.position]) for leaf in problem.arguments.leaves]
        constants = [flat[position] for position in problem.arguments.constants]
        return pull_back(lambda v: call(v, constants)[0], variables, weights)[0]

    inner = Problem(
        f=gradient, arguments=problem.arguments, memory=problem.memory, seed=problem.seed + 1
    )
    second = prepare(inner, subject.dtype != np.float64)
    report = check_point(second, replace(options, expected=None))
    check = _symmetry(second)
    if report.leaves and all(leaf.norm == 0 for leaf in report.leaves):
        report = with_verdict(
            report, report.verdict, "all second derivatives are zero: piecewise linear?"
        )
    report = replace(report, exact=(*report.exact, check))
    return with_verdict(report, "FAIL") if check.outcome == "failed" else report


def _symmetry(second: Subject) -> ExactCheck:
    """Check that second derivatives do not depend on the order of differentiation."""
    program = second.program
    own = program.cotangent
    rng = np.random.default_rng([second.problem.seed, 17])
    try:
        u, w = (
            [rng.normal(size=np.shape(v)).astype(v.dtype) for v in program.variables]
            for _ in range(2)
        )
        program.cotangent = w
        hw = autodiff(second)[0]
        program.cotangent = u
        hu = autodiff(second)[0]
    except Exception as error:
        return ExactCheck("symmetric", "n/a", type(error).__name__)
    finally:
        program.cotangent = own
    left = [np.asarray(a, np.float64) * b.reshape(a.shape) for a, b in zip(u, hw, strict=True)]
    right = [np.asarray(a, np.float64) * b.reshape(a.shape) for a, b in zip(w, hu, strict=True)]
    gap, size = gap_of_sums(left, right)
    bad = gap > 1e5 * program.coarsest_roundoff * size
    return ExactCheck("symmetric", "failed" if bad else "ok", f"off by {gap:.0e}" if bad else "")
