"""Planted bugs and tricky right gradients through several gradient checkers, as users call them.

A row is a checker with its defaults: how many bugs it catches, how many right gradients it
rejects (of the same functions, and of the tricky cases), what it leaves undecided or cannot be
given, and the seconds for all, compilation included. Torch's and the course's rules are written
anew below, with compiled loops; torch itself and chex have rows where they are installed.
"""

import functools
import importlib.util
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads as jax_check_grads

from benchmarks.gradcheck_zoo import BUGS, CASES, Bug, Case, cast
from benchmarks.gradcheck_zoo.row import Vjp, times, with_vjp
from jaxnet.gradcheck import check_grads

MOST_ENTRIES = 20_000  # a Jacobian by coordinates takes 2 evaluations an entry


class Subject(NamedTuple):
    """A function with a backward pass to check."""

    f: Callable[..., Any]
    vjp: Vjp
    args: tuple[Any, ...]
    settings: dict[str, Any] = {}  # noqa: RUF012  (keywords for our checker)
    plain: bool = True


class Checker(NamedTuple):
    """`accepts(subject)`: True, False, None where it cannot tell; it raises where it cannot run."""

    name: str
    dtype: str
    accepts: Callable[[Subject], bool | None]


class TooLarge(Exception):
    """The checker would take minutes."""


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a checker."""
    bugs = [bug for bug in BUGS if bug.visible]
    bugs, cases = (bugs[:3], CASES[:3]) if smoke else (bugs, CASES)
    return [_measure(checker, bugs, cases) for checker in checkers()]


def checkers() -> list[Checker]:
    found = [
        Checker("jaxnet", "float64", _jaxnet),
        Checker("jaxnet", "float32", _jaxnet),
        Checker("jax check_grads", "float64", _jax),
        Checker("jax check_grads", "float32", _jax),
        Checker("torch rules, fast", "float64", _torch_fast),
        Checker("torch rules, slow", "float64", _torch_slow),
        Checker("course, 10 a leaf, 1e-2", "float64", functools.partial(_course, limit=1e-2)),
        Checker("course, 10 a leaf, 1e-4", "float64", functools.partial(_course, limit=1e-4)),
        Checker("course, every entry, 1e-4", "float64", _course_everywhere),
    ]
    if importlib.util.find_spec("chex"):
        found += [Checker("chex", dtype, _chex) for dtype in ("float64", "float32")]
    if importlib.util.find_spec("torch"):
        found += [
            Checker("torch, fast", "float64", functools.partial(_torch, fast_mode=True)),
            Checker("torch, slow", "float64", functools.partial(_torch, fast_mode=False)),
        ]
    return found


def _measure(checker: Checker, bugs: Sequence[Bug], cases: Sequence[Case]) -> dict[str, Any]:
    with jax.enable_x64(checker.dtype == "float64"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the others' own making
        jax.clear_caches()  # each checker compiles for itself
        start = time.perf_counter()
        wrong = [_verdict(checker, _of_bug(bug, bug.wrong, checker.dtype)) for bug in bugs]
        right = [_verdict(checker, _of_bug(bug, bug.right, checker.dtype)) for bug in bugs]
        tricky = [_verdict(checker, _of_case(case, checker.dtype)) for case in cases]
        seconds = time.perf_counter() - start
    everything = wrong + right + tricky
    return {
        "checker": checker.name,
        "dtype": checker.dtype,
        "caught": wrong.count("rejected"),
        "bugs": len(wrong) - wrong.count("not run"),
        "right_rejected": right.count("rejected"),
        "tricky_rejected": tricky.count("rejected"),
        "tricky": len(tricky) - tricky.count("not run"),
        "undecided": everything.count("undecided"),
        "not_run": everything.count("not run"),
        "seconds": seconds,
    }


def _verdict(checker: Checker, subject: Subject) -> str:
    try:
        accepted = checker.accepts(subject)
    except Exception:
        return "not run"
    return "undecided" if accepted is None else "accepted" if accepted else "rejected"


def _of_bug(bug: Bug, vjp: Vjp, dtype: str) -> Subject:
    return Subject(bug.f, vjp, cast(bug.args, dtype))


def _of_case(case: Case, dtype: str) -> Subject:
    def vjp(dout, *args):
        assert case.grad is not None
        return tuple(times(dout, gradient) for gradient in case.grad(*args))

    return Subject(case.f, vjp, cast(case.args, dtype), case.settings, case.plain)


def _jaxnet(subject: Subject) -> bool | None:
    f, vjp, args, settings, _ = subject
    if settings:
        report = check_grads(f, args, grad=lambda *args: vjp(1.0, *args), **settings)
    else:
        report = check_grads(
            lambda *args: (f(*args), args), args, backward=lambda dout, cache: vjp(dout, *cache)
        )
    return None if report.verdict == "INCONCLUSIVE" else report.verdict != "FAIL"


def _jax(subject: Subject) -> bool:
    function = with_vjp(subject.f, subject.vjp)
    return _raises_not(jax_check_grads, function, subject.args, order=1, modes=["rev"])


def _chex(subject: Subject) -> bool:
    import chex  # pyright: ignore[reportMissingImports]

    function = with_vjp(subject.f, subject.vjp)
    return _raises_not(chex.assert_numerical_grads, function, subject.args, order=1, modes=["rev"])


def _raises_not(check: Callable[..., object], *args: Any, **settings: Any) -> bool:
    try:
        check(*args, **settings)
    except AssertionError:
        return False
    return True


# Torch's rules: central differences of step 1e-6, |a − n| ≤ 1e-5 + 1e-3·|n|, backward twice alike,
# and a zero cotangent gives zero gradients.

STEP, ATOL, RTOL = 1e-6, 1e-5, 1e-3


def _torch_fast(subject: Subject) -> bool:
    """One random positive direction of input and output; atol grows with both their sums."""
    f, vjp, args = _plain(subject)
    generator = np.random.default_rng(0)
    out = f(*args)
    v = _unit(generator.uniform(size=out.shape))
    gradients = vjp(v, *args)
    for i, (arg, gradient) in enumerate(zip(args, gradients, strict=True)):
        u = _unit(generator.uniform(size=arg.shape))
        ahead, behind = (f(*_moved(args, i, sign * STEP * u)) for sign in (1, -1))
        numeric = np.vdot(v, np.asarray(ahead - behind)) / (2 * STEP)
        analytic = np.vdot(np.asarray(gradient), u)
        if not abs(analytic - numeric) <= ATOL * u.sum() * v.sum() + RTOL * abs(numeric):
            return False
    return _torch_backward(vjp, args, out)


def _torch_slow(subject: Subject) -> bool:
    """The whole Jacobian."""
    f, vjp, args = _plain(subject)
    if sum(arg.size for arg in args) > MOST_ENTRIES:
        raise TooLarge
    out = f(*args)
    rows = np.eye(out.size).reshape(out.size, *out.shape)
    analytic = jax.lax.map(lambda row: vjp(row, *args), jnp.asarray(rows, out.dtype))
    for i, (arg, jacobian) in enumerate(zip(args, analytic, strict=True)):
        numeric = _columns(f, args, i, np.arange(arg.size), STEP)
        error = np.abs(np.asarray(jacobian).reshape(out.size, -1) - numeric.T)
        if not (error <= ATOL + RTOL * np.abs(numeric.T)).all():
            return False
    return _torch_backward(vjp, args, out)


def _torch_backward(vjp: Vjp, args: tuple, out: jax.Array) -> bool:
    first, second = (vjp(jnp.ones_like(out), *args) for _ in range(2))
    zero = vjp(jnp.zeros_like(out), *args)
    alike = all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    return alike and not any(np.any(gradient) for gradient in zero)


def _torch(subject: Subject, *, fast_mode: bool) -> bool:
    """Torch itself, on a function whose two passes are ours."""
    import torch  # pyright: ignore[reportMissingImports]

    f, vjp, args = _plain(subject)
    if not fast_mode and sum(arg.size for arg in args) > MOST_ENTRIES:
        raise TooLarge

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(context, *tensors):
            context.save_for_backward(*tensors)
            return torch.tensor(np.asarray(f(*[t.detach().numpy() for t in tensors])))

        @staticmethod
        def backward(context, dout):  # pyright: ignore[reportIncompatibleMethodOverride] (as PyTorch documents it)
            saved = [t.detach().numpy() for t in context.saved_tensors]
            return tuple(torch.tensor(np.asarray(g)) for g in vjp(dout.numpy(), *saved))

    inputs = [torch.tensor(np.asarray(arg), requires_grad=True) for arg in args]
    # Torch's further test, a cotangent of None, is refused by most backward passes in NumPy.
    return torch.autograd.gradcheck(
        Function.apply,
        inputs,
        fast_mode=fast_mode,
        raise_exception=False,
        check_undefined_grad=False,
    )


# The course's rules: central differences of step 1e-5, |a − n|/(|a| + |n|) below a limit. Its loop
# prints, the reader judges: "> 1e-2 usually means the gradient is probably wrong", and below 1e-4
# is all right for objectives with kinks.


def _course(subject: Subject, *, limit: float, entries: int | None = 10) -> bool:
    f, vjp, args = _plain(subject)
    generator = np.random.default_rng(0)
    out = f(*args)
    dout = generator.normal(size=out.shape) if out.ndim else np.ones(())
    gradients = vjp(dout, *args)
    for i, (arg, gradient) in enumerate(zip(args, gradients, strict=True)):
        picks = (
            np.arange(arg.size) if entries is None else generator.integers(arg.size, size=entries)
        )
        numeric = _columns(f, args, i, picks, 1e-5) @ dout.ravel()
        analytic = np.asarray(gradient).ravel()[picks]
        both = np.abs(analytic) + np.abs(numeric)
        error = np.abs(analytic - numeric) / np.where(both == 0, 1, both)
        if not (error <= limit).all():
            return False
    return True


def _course_everywhere(subject: Subject) -> bool:
    if sum(np.size(arg) for arg in subject.args) > MOST_ENTRIES:
        raise TooLarge
    return _course(subject, limit=1e-4, entries=None)


# What the rules share


def _plain(subject: Subject) -> tuple[Callable[..., jax.Array], Vjp, tuple]:
    """Return compiled passes; raise unless all is floats, as these tools ask."""
    if not subject.plain:
        raise TypeError("arguments or outputs other than floating-point arrays")
    f = jax.jit(subject.f)
    return (
        f,
        lambda dout, *args: subject.vjp(jnp.asarray(dout, f(*args).dtype), *args),
        subject.args,
    )


def _unit(direction: np.ndarray) -> np.ndarray:
    return direction / np.linalg.norm(direction)


def _moved(args: tuple, i: int, step: np.ndarray) -> tuple:
    return *args[:i], args[i] + jnp.asarray(step, args[i].dtype), *args[i + 1 :]


def _columns(f: Callable, args: tuple, i: int, picks: np.ndarray, step: float) -> np.ndarray:
    """Return [pick, output]: central differences of f by entries of args[i]."""
    shape = args[i].shape

    def one(pick):
        unit = jnp.zeros(args[i].size, args[i].dtype).at[pick].set(step).reshape(shape)
        ahead, behind = (f(*args[:i], args[i] + s * unit, *args[i + 1 :]) for s in (1, -1))
        return (ahead - behind).ravel() / (2 * step)

    return np.asarray(jax.jit(lambda picks: jax.lax.map(one, picks))(jnp.asarray(picks)))
