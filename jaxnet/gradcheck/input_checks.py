"""Inputs that are refused before anything runs, each with the change to make."""

import time
from collections.abc import Collection, Iterator

import jax
import numpy as np

from jaxnet.arguments.checks import held, shown
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.function.subject import Subject
from jaxnet.gradcheck.options import CheckOptions


def demand_functions(f, grad, backward) -> None:
    """Refuse what is not a function, and two gradients at once."""
    if not callable(f):
        raise ConfigurationError(f"f expects a function, got {type(f).__name__}")
    if grad is not None and backward is not None:
        raise ConfigurationError("give grad= (of a scalar f) or backward= (of a layer), not both")


def demand_weights(cotangent) -> None:
    """Refuse weights of the outputs that are not finite numbers of moderate size."""
    if isinstance(cotangent, Iterator):
        raise ConfigurationError(f"cotangent: expected weights, got {shown(cotangent)}")
    for leaf in jax.tree.leaves(cotangent):
        number = leaf if hasattr(leaf, "dtype") else held(leaf)
        numeric = isinstance(number, int | float) or hasattr(number, "dtype")
        if not numeric or not _is_small(number):
            raise ConfigurationError(
                f"cotangent: expected finite weights of the outputs below {_MAX_WEIGHT:g}, got "
                f"{shown(leaf)}"
            )


_MAX_WEIGHT = 1e100  # squares of weights are summed, which must not overflow


def _is_small(weights) -> bool:
    try:
        return bool((np.abs(np.asarray(weights, np.float64)) < _MAX_WEIGHT).all())
    except (TypeError, ValueError, OverflowError):
        return False


def demand_live(live: Collection[str], paths: list[str]) -> None:
    """Refuse names that no leaf has."""
    if isinstance(live, str):
        raise ConfigurationError(f"live expects names of leaves, write live=({live!r},)")
    for wish in live:
        if not any(is_named(wish, path) for path in paths):
            raise ConfigurationError(unknown("leaf in live", wish, paths))


def demand_budget(subject: Subject, options: CheckOptions, most: int) -> None:
    """Refuse checks that would take for ever, and say how long."""
    program = subject.program
    per_leaf = {"directional": options.directions + 4, "sampled": options.directions + 36}
    lines = sum(
        min(size, 1 << 62) if options.mode == "full" else per_leaf[options.mode]
        for size in program.sizes
    )
    rungs = 10 if options.mode == "full" else 22
    needed = lines * rungs
    limit = most if not isinstance(program, LoopProgram) else most // 10
    if needed <= limit:
        return
    with subject.scope():
        program.centre()
        started = time.perf_counter()
        program.along(0, np.zeros((1, program.sizes[0])), np.zeros((1, 64)))
        each = (time.perf_counter() - started) / 64
    raise ConfigurationError(
        f"mode={options.mode!r} needs {needed:,} evaluations of f, about "
        f"{_duration(needed * each)} ({each * 1e3:.2g} ms each), more than "
        f"max_evaluations={most:,}: raise it, or use mode='sampled' or 'directional'"
    )


def is_named(wish: str, path: str) -> bool:
    """Whether a name stands for a leaf: its whole path, or its beginning or end."""
    return path == wish or path.startswith(wish + "/") or path.endswith("/" + wish)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
