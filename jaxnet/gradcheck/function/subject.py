"""The function under test and its gradients as programs, in float64 where it runs in float64."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck.function.arguments import Arguments
from jaxnet.gradcheck.function.scalar_program import LoopProgram, Program
from jaxnet.gradcheck.function.user_errors import error_text, name_and_text, user_errors
from jaxnet.gradcheck.jaxpr.trace import EagerProgram, TracedProgram, trace
from jaxnet.gradcheck.numeric.norms import scale

UNTRACEABLE = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)
UNTRACEABLE += (jax.errors.TracerIntegerConversionError, jax.errors.NonConcreteBooleanIndexError)


@dataclass(kw_only=True)
class Problem:
    """What the user asks: functions, arguments and how to call them."""

    f: Callable
    arguments: Arguments
    grad: Callable | None = None
    backward: Callable | None = None
    reference: Callable | None = None
    has_aux: bool = False
    memory: int = 1 << 28
    cotangent: Any = None
    seed: int = 0

    def outputs_of(self, result: Any) -> Any:
        """Return the part of f's result that is differentiated."""
        if self.backward is not None:
            if not (isinstance(result, (tuple, list)) and len(result) >= 2):
                raise ConfigurationError(
                    "backward= expects f to return (out, cache), got one value: "
                    "return what backward needs beside the output"
                )
            return result[0]
        if self.has_aux:
            if not (isinstance(result, (tuple, list)) and len(result) == 2):
                raise ConfigurationError(
                    "has_aux=True expects f to return (value, auxiliary), a tuple of two"
                )
            return result[0]
        return result


@dataclass(kw_only=True)
class Subject:
    """One point: the scalar program with the gradients under test and by autodiff, in one dtype."""

    problem: Problem
    program: Any
    dtype: np.dtype
    out: Any  # the outputs: (treedef, positions of the floats, shape and dtype of each leaf)
    standard: bool  # run under standard dtype promotion
    tested: str = ""
    beside: bool = False  # near the given arguments, not at them
    notes: list[str] = field(default_factory=list)
    manual_trace: Any = None  # a TracedProgram, or EAGER for a gradient that cannot be traced
    autodiff_trace: TracedProgram | EagerProgram | None = None
    # Both are lists of at most one item, filled when it is first needed.
    signature: list[Any] = field(default_factory=list)  # the signature function of f's branches
    plain: list[Any] = field(default_factory=list)  # the gradient without custom rules

    @contextlib.contextmanager
    def scope(self):
        """Set the precision for the duration of a computation, and restore it afterwards."""
        with _scope(self.dtype, self.standard):
            yield

    @property
    def has_manual(self) -> bool:
        """Whether a hand-written gradient or backward pass is under test, rather than autodiff."""
        return self.problem.grad is not None or self.problem.backward is not None

    def nearby(self, rng: np.random.Generator, amount: float) -> "Subject":
        """Return the subject at a random point nearby."""
        variables = []
        for variable in self.program.variables:
            x = np.asarray(variable, np.float64)
            step = rng.choice([-1.0, 1.0], x.shape) * rng.uniform(0.5, 1.5, x.shape)
            variables.append((x + amount * scale(x) * step).astype(self.dtype))
        program = self.program.at_point(variables)
        with self.scope():
            program.values = [np.asarray(v) for v in program.outputs()]
        return replace(self, program=program, notes=[], beside=True, plain=[])


def _scope(dtype: Any, standard: bool):
    stack = contextlib.ExitStack()
    if np.dtype(dtype) == np.float64:
        stack.enter_context(jax.enable_x64(True))
    # TF32 products on a GPU would be the noise that hides a derivative.
    stack.enter_context(jax.default_matmul_precision("highest"))
    if standard:
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
    return stack


class Float32Only(Exception):
    """The function returns float32 or less, whatever its arguments are."""


def prepare(problem: Problem, float32_only: bool) -> Subject:
    """Trace f in float64 where it can run in that, else in float32 with a note that says why."""
    if float32_only:
        return _prepare(problem, np.float32, False)
    try:
        return _prepare(problem, np.float64, False)
    except ConfigurationError:
        raise
    except Float32Only as error:
        why = str(error)
    except Exception as error:
        # JAX exports no name for this error, which strict promotion raises.
        if type(error).__name__ == "TypePromotionError":
            with contextlib.suppress(Float32Only):
                subject = _prepare(problem, np.float64, True)
                subject.notes.append(
                    "float64 arguments meet narrower constants of f: run with standard promotion"
                )
                return subject
            why = "f computes in float32 whatever its arguments are"
        else:
            text = error_text(error)
            why = f"f raises in float64 ({text})"
            # A function that raises on its own arguments, too, is the user's error.
            try:
                problem.f(*problem.arguments.rebuild([x.value for x in problem.arguments.leaves]))
            except Exception as own:
                also = "" if error_text(own) == text else f"; in float64 {text}"
                name, words = name_and_text(own)
                raise ConfigurationError(
                    f"f raised {name} on the given arguments: {words}{also}"
                ) from own
    with user_errors("f", "when traced in float32"):
        subject = _prepare(problem, np.float32, False)
    subject.notes.append(f"{why}: checked in float32 only, with coarser bounds")
    return subject


def _prepare(problem: Problem, dtype: Any, standard: bool) -> Subject:
    arguments = problem.arguments
    with _scope(dtype, standard):
        variables = arguments.variables(dtype)
        constants = [
            jnp.asarray(a)
            for a in arguments.constant_arrays(dtype if dtype == np.float64 else None)
        ]
        call = caller(problem)
        try:
            traced = trace(call, variables, constants)
            program: Any = Program(traced, variables, constants, dtype, problem.memory)
            out = traced.meta
        except UNTRACEABLE:
            box = []

            def eager(variables):
                with _scope(dtype, standard):
                    arrays, meta = call(in_given_types(arguments, variables), None)
                box.append(meta)
                return arrays

            program = LoopProgram(eager, variables, dtype)
            program.outputs()
            out = box[-1]
        values = [np.asarray(v) for v in program.outputs()]
    if dtype == np.float64 and not any(v.dtype == np.float64 for v in values):
        raise Float32Only(f"f returns {values[0].dtype} for float64 arguments")
    program.cotangent = _cotangent(problem, out, values)
    program.values = values
    subject = Subject(
        problem=problem, program=program, dtype=np.dtype(dtype), out=out, standard=standard
    )
    for value in values:
        if not np.isfinite(np.asarray(value, np.float64)).all():
            raise ConfigurationError(
                "f is not finite at the given arguments, so it has no derivative there: give "
                "arguments inside its domain"
            )
    return subject


def pull_back(function: Callable, variables: Any, cotangent: Sequence[Any]) -> tuple[Any, Any]:
    """Return the gradients of <cotangent, function(variables)> and the outputs, by autodiff."""
    outputs, pull = jax.vjp(function, variables)
    weights = [jnp.asarray(w).astype(o.dtype) for w, o in zip(cotangent, outputs, strict=True)]
    return pull(weights)[0], outputs


def caller(problem: Problem, f: Callable | None = None) -> Callable:
    """Return call(variables, constants) -> (float outputs, structure of all outputs)."""

    def call(variables: Sequence[Any], constants: Sequence[Any] | None):
        result = (f or problem.f)(*problem.arguments.rebuild(variables, constants))
        # A reference returns no cache, though f does; it has an auxiliary result if f has.
        plain = f is not None and (problem.backward is not None or not problem.has_aux)
        out = result if plain else problem.outputs_of(result)
        leaves, structure = jax.tree.flatten(out)
        floats = [i for i, leaf in enumerate(leaves) if _is_float_output(leaf)]
        if not floats:
            kinds = ", ".join(str(getattr(x, "dtype", type(x).__name__)) for x in leaves) or "None"
            raise ConfigurationError(
                f"f returns nothing that can be differentiated ({kinds}): return a floating-point "
                f"scalar or array"
            )
        arrays = [jnp.asarray(leaves[i]) for i in floats]
        shapes = [(np.shape(x), getattr(x, "dtype", None)) for x in leaves]
        return arrays, (structure, floats, shapes)

    return call


def _is_float_output(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    if isinstance(leaf, complex) or (dtype and jnp.issubdtype(dtype, jnp.complexfloating)):
        raise ConfigurationError(
            "f returns complex numbers, which are not supported: return their real and imaginary "
            "parts"
        )
    return isinstance(leaf, float) or (dtype is not None and jnp.issubdtype(dtype, jnp.floating))


def _cotangent(problem: Problem, out: Any, values: list[np.ndarray]) -> list[Any]:
    """Return random weights ±U(½, 3/2) of the outputs, 1 for a scalar; never all ones.

    Softmax, layer and batch normalization send constants to zero, so equal weights would show
    nothing. Each output is weighted by its inverse scale, so that none of them swamps the others.
    """
    structure, floats, _ = out
    if problem.cotangent is not None:
        given, got = jax.tree.flatten(problem.cotangent)
        if got != structure:
            raise ConfigurationError(
                f"cotangent= expects the structure of f's output, {structure}, got {got}"
            )
        given = [np.asarray(given[i]).astype(v.dtype) for i, v in zip(floats, values, strict=True)]
        for g, v in zip(given, values, strict=True):
            if g.shape != v.shape:
                raise ConfigurationError(
                    f"cotangent= expects the shape of f's output, {v.shape}, got {g.shape}"
                )
        if problem.grad is not None and any(np.any(g != 1) for g in given):
            raise ConfigurationError(
                "cotangent= weights what backward= or a custom rule gets, but grad= is the "
                "gradient of f itself: leave cotangent= out, or put its factor into f and grad"
            )
        return given
    if len(values) == 1 and values[0].shape == ():
        return [np.ones((), values[0].dtype)]
    if problem.grad is not None:
        raise ConfigurationError(
            f"grad= is the gradient of a scalar, but f returns {[v.shape for v in values]}: use "
            f"has_aux=True for (loss, auxiliary), backward= for a layer, or return a scalar"
        )
    rng = np.random.default_rng([problem.seed, 7])
    weights = []
    for value in values:
        weight = rng.choice([-1.0, 1.0], value.shape) * rng.uniform(0.5, 1.5, value.shape)
        size = scale(np.asarray(value, np.float64)) if len(values) > 1 else 1.0
        weights.append((weight / size).astype(value.dtype))
    return weights


def in_given_types(arguments: Arguments, variables: Sequence[Any]) -> list[Any]:
    """Return the leaves as NumPy arrays or Python floats where the user gave such."""
    given = []
    for leaf, variable in zip(arguments.leaves, variables, strict=True):
        if isinstance(leaf.value, float) and not isinstance(leaf.value, np.generic):
            given.append(float(variable))
        elif isinstance(leaf.value, (np.ndarray, np.generic)):
            given.append(np.array(variable))
        else:
            given.append(jnp.asarray(variable))
    return given
