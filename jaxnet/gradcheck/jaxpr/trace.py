"""Functions traced to programs, and a cache of compiled code by what a program computes."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax.core import eval_jaxpr

from jaxnet.gradcheck.jaxpr.equations import value_of

# The key is what a program computes, not who asked: closures made anew for every check trace to the
# same text and find their compiled code again, and a function that was changed traces to another.
_COMPILED: OrderedDict[Any, Callable] = OrderedDict()
_MAX_COMPILED = 128  # functions in the cache
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class TracedProgram(NamedTuple):
    """A program: arrays in, a list of arrays out, and what else the function returned.

    The program holds its callbacks, so their identities stay theirs while its code is in the cache.
    """

    jaxpr: Any
    consts: list[Any]
    meta: Any
    fingerprint: str  # a hash of what the program computes, without its callbacks
    callbacks: tuple[int, ...] = ()  # the identities of its callbacks

    @property
    def code(self) -> Any:
        """Return the key of compiled code; callbacks belong to it, since the text shows none."""
        return self.fingerprint, self.callbacks

    def __call__(self, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        """Evaluate inside another program."""
        outputs = eval_jaxpr(self.jaxpr, consts, *jax.tree.leaves(inputs))
        # A constant result is a literal of the program, which evaluates to a Python number.
        return [
            value_of(var) if isinstance(var, jex.Literal) else out
            for out, var in zip(outputs, self.jaxpr.outvars, strict=True)
        ]

    def run(self, *inputs: Any) -> list[Any]:
        """Evaluate with compiled code."""
        function = compiled(("run", self.code), self._compile)
        return function(self.consts, inputs)

    def _compile(self) -> Callable:
        # The code runs once or twice: compiling in two thirds of the time is worth more than speed.
        return jax.jit(
            lambda consts, inputs: self(consts, inputs),
            compiler_options={"xla_backend_optimization_level": 0},
        )


def trace(function: Callable[..., tuple[list[Any], Any]], *inputs: Any) -> TracedProgram:
    """Trace `function(*inputs) -> (arrays, anything)` on concrete inputs."""
    box = []

    def arrays_only(*inputs):
        arrays, meta = function(*inputs)
        box.append(meta)
        return arrays

    closed = jax.make_jaxpr(arrays_only)(*inputs)
    calls = tuple(_callbacks(closed.jaxpr))
    return TracedProgram(
        jaxpr=closed.jaxpr,
        consts=list(closed.consts),
        meta=box[-1],
        fingerprint=_fingerprint(closed),
        callbacks=calls,
    )


class EagerProgram(NamedTuple):
    """A function that runs outside of jit only, operation by operation."""

    function: Callable[..., tuple[list[Any], Any]]

    def run(self, *inputs: Any) -> list[Any]:
        """Evaluate operation by operation."""
        return self.function(*inputs)[0]


def try_to_trace(
    function: Callable[..., tuple[list[Any], Any]], *inputs: Any
) -> tuple[TracedProgram | EagerProgram, Exception | None]:
    """Return a program of `function`, and the error where it cannot be traced.

    Some of JAX's own rules read the values of constants, such as the 0 from which a window is
    summed, and find none in a trace.
    """
    try:
        return trace(function, *inputs), None
    except Exception as error:
        return EagerProgram(function), error


def _callbacks(jaxpr: Any) -> Iterator[int]:
    """Yield the identities of the Python functions that the program calls when it runs."""
    for equation in walk(jaxpr):
        if "callback" in equation.primitive.name:
            callback = equation.params.get("callback")
            yield id(getattr(callback, "callback_func", callback))


def compiled(key: Any, make: Callable[[], Callable]) -> Callable:
    """Return the compiled function of this key, made at the first call."""
    if key not in _COMPILED:
        _COMPILED[key] = make()
        while len(_COMPILED) > _MAX_COMPILED:
            _COMPILED.popitem(last=False)
    _COMPILED.move_to_end(key)
    return _COMPILED[key]


def _fingerprint(closed: Any) -> str:
    text = _ADDRESS.sub("", str(closed.jaxpr))
    digest = hashlib.sha256(text.encode())
    for const in closed.consts:
        digest.update(str((np.shape(const), getattr(const, "dtype", None))).encode())
    for array in _inner_arrays(closed.jaxpr):
        digest.update(_bytes(array))
    return digest.hexdigest()


def _inner_arrays(jaxpr: Any) -> list[Any]:
    """Return the arrays that the printed program hides, though they decide what it computes."""
    arrays = []
    for equation in walk(jaxpr):
        arrays += [v.val for v in equation.invars if isinstance(v, jex.Literal) and np.ndim(v.val)]
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: isinstance(x, jex.ClosedJaxpr)
        ):
            if isinstance(inner, jex.ClosedJaxpr):
                arrays += inner.consts
    return arrays


def _bytes(array: Any) -> bytes:
    if jnp.issubdtype(getattr(array, "dtype", np.float32), jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    try:
        return np.asarray(array).tobytes()
    except Exception:  # a mutable reference or a token, which no two programs share
        return str(id(array)).encode()


def walk(jaxpr: Any) -> list[Any]:
    """Return every equation, with the equations of inner programs."""
    equations = []
    for equation in jaxpr.eqns:
        equations.append(equation)
        for inner in jex.jaxprs_in_params(equation.params):
            equations += walk(getattr(inner, "jaxpr", inner))
    return equations


def roundoffs_in(traced: TracedProgram) -> set[float]:
    """Return the unit roundoffs in which the program computes, `reduce_precision` included."""
    roundoffs = {0.0}
    for equation in walk(traced.jaxpr):
        for v in equation.outvars:
            if hasattr(v.aval, "dtype") and jnp.issubdtype(v.aval.dtype, jnp.floating):
                roundoffs.add(roundoff_of(equation, v.aval.dtype))
    return roundoffs


def roundoff_of(equation: Any, dtype: Any) -> float:
    """Return the unit roundoff, half of eps, of an equation's results of a dtype."""
    roundoff = float(jnp.finfo(dtype).eps) / 2
    if equation.primitive.name == "reduce_precision":
        return max(roundoff, 2.0 ** -(equation.params["mantissa_bits"] + 1))
    return roundoff


def bytes_per_evaluation(traced: TracedProgram) -> int:
    """Return the bytes of all intermediate results, as if none of them were fused or freed."""
    total = 0
    for equation in traced.jaxpr.eqns:
        for v in equation.outvars:
            shape = getattr(v.aval, "shape", ())
            total += 8 * int(np.prod(shape)) if all(isinstance(n, int) for n in shape) else 0
    return total
