"""The branch signature of a function: the side that wins at each branch of its program.

Where the signatures of two points differ, a kink may lie between them, at the sites that changed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck.jaxpr.equations import DEAD, DIFFERENTIABLE, is_inexact, open_program
from jaxnet.gradcheck.kinks.branch_sites import BranchRecord, Site
from jaxnet.gradcheck.kinks.interpreter import interpret


@dataclass(frozen=True)
class BranchSignature:
    """The side that wins at each site, for one point.

    `codes` has a uint32 for each site: a hash of the winners, and in its lowest bit whether
    operands tie. `unread` lists the primitives whose inside could not be read (pallas_call, a
    callback): where there are any, equal signatures prove nothing.
    """

    sites: tuple[Site, ...]
    codes: UInt32[np.ndarray, " sites"]
    unread: tuple[Site, ...] = ()

    @property
    def opaque(self) -> bool:
        """Whether some part of the program could not be read."""
        return bool(self.unread)

    @property
    def tied(self) -> list[Site]:
        """Return the sites with the point on the boundary: max of equal operands, abs at 0."""
        return _once(self.sites, self.codes & 1 == 1)


class SignatureFunction(NamedTuple):
    """A function `codes(*args)` -> uint32 [sites]; see `BranchSignature`."""

    codes: Callable[..., UInt32[Array, " sites"]]
    sites: tuple[Site, ...]
    unread: tuple[Site, ...]

    def at(self, *args: Any) -> BranchSignature:
        """Return the signature at one point."""
        return BranchSignature(self.sites, np.asarray(self.codes(*args)), self.unread)


def signature_function(f: Callable[..., Any], *args: Any) -> SignatureFunction:
    """Return a function that computes which side wins at each branch of f.

    The program of f is read at the shapes and dtypes of args. Every float comparison, max, min,
    abs, sign, where, reduce_max, argmax, sort, rounding ... that depends on a float argument and
    reaches a float result is a site. Call `codes` under the same `jax.enable_x64` as this.
    Arguments other than arrays and floats (integers, strings, None) are constants of the program:
    `codes(*other)` uses the values given here. A program that cannot be read has no sites and is
    `unread`.

    >>> codes, sites, unread = signature_function(jax.nn.relu, jnp.ones(3))
    >>> [site.primitive for site in sites], unread
    (['max'], ())
    >>> near, far = codes(jnp.array([1.0, -1.0, 2.0])), codes(jnp.array([1.0, 1.0, 2.0]))
    >>> bool((near == far).any())
    False
    """
    leaves, tree = jax.tree.flatten(args)
    traced = [i for i, leaf in enumerate(leaves) if _is_traced(leaf)]

    def flat(*values):
        filled = list(leaves)
        for i, value in zip(traced, values, strict=True):
            filled[i] = value
        return [
            out for out in jax.tree.leaves(f(*jax.tree.unflatten(tree, filled))) if _is_array(out)
        ]

    record = BranchRecord()

    def run(*values):
        record.clear()
        interpret(opened, values, inexact, needed, None, record)
        return record.stacked()

    try:
        opened = program, _ = open_program(jax.make_jaxpr(flat)(*(leaves[i] for i in traced)))
        types = [v.aval for v in program.invars]
        inexact = [is_inexact(v) for v in program.invars]
        needed = [DIFFERENTIABLE if is_inexact(v) else DEAD for v in program.outvars]
        jax.eval_shape(run, *types)
    except Exception as error:  # whatever keeps JAX or this file from tracing a user's program
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        reason = Site(f"unreadable program ({text})")
        return SignatureFunction(lambda *_: jnp.zeros(0, jnp.uint32), (), (reason,))
    run = jax.jit(run)

    def codes(*args):
        values, other = jax.tree.flatten(args)
        if other != tree:
            raise ConfigurationError(
                f"expected arguments of the structure {tree}, got {other}: pass those that "
                f"signature_function was given, with other values"
            )
        return run(*(_as_type(values[i], v) for i, v in zip(traced, types, strict=True)))

    return SignatureFunction(codes, tuple(record.sites), tuple(dict.fromkeys(record.unread)))


def signature(f: Callable[..., Any], *args: Any) -> BranchSignature:
    """Return which side wins at each branch of f(*args); see `signature_function`.

    >>> x = jnp.array([1.0, 0.0])
    >>> [site.primitive for site in signature(lambda x: abs(x).sum(), x).tied]
    ['abs']
    """
    return signature_function(f, *args).at(*args)


def changed_sites(a: BranchSignature, b: BranchSignature) -> list[Site]:
    """Return the sites where another side wins; without any, no kink lies between the two."""
    if a.sites != b.sites:
        raise ConfigurationError(
            f"expected two signatures of one program, got {len(a.sites)} and {len(b.sites)} sites "
            f"that differ: take both from one signature_function"
        )
    return _once(a.sites, a.codes >> 1 != b.codes >> 1)


def sites_near(
    f: Callable[..., Any] | SignatureFunction,
    args: Sequence[Any],
    plus: Sequence[Any],
    minus: Sequence[Any],
) -> list[Site]:
    """Return the sites of the kinks between two perturbed argument tuples, or at args itself.

    The winner differs there between plus and minus, or operands tie at args and the tie breaks on
    one side at least: a tie that stays on both sides has no kink between them. Give the
    `signature_function` instead of f, where there is one, to save reading the program again.

    >>> x, h = jnp.array([1.0, 0.0]), jnp.array([0.0, 1e-3])
    >>> sites = sites_near(lambda x: jnp.maximum(x, 0).sum(), [x], [x + h], [x - h])
    >>> [site.primitive for site in sites]
    ['max']
    """
    function = f if isinstance(f, SignatureFunction) else signature_function(f, *args)
    codes = [np.asarray(function.codes(*point)) for point in (args, plus, minus)]
    at, up, down = (code >> 1 for code in codes)
    tied = codes[0] & 1 == 1
    return _once(function.sites, (up != down) | (tied & ((at != up) | (at != down))))


def _once(sites: Sequence[Site], chosen: np.ndarray) -> list[Site]:
    """Return each chosen site once; a `where` only if its comparison is on another line."""
    picked = list(dict.fromkeys(site for site, yes in zip(sites, chosen, strict=True) if yes))
    lines = {(s.file, s.line) for s in picked if s.primitive not in _CONSEQUENCES}
    return [s for s in picked if s.primitive not in _CONSEQUENCES or (s.file, s.line) not in lines]


_CONSEQUENCES = {"select_n", "cond"}
"""Primitives that act on a comparison made before: the comparison is the better name."""


def _is_traced(leaf: Any) -> bool:
    """Whether a leaf is an argument of the program; integers may be shapes, so they are not."""
    if isinstance(leaf, jax.Array | np.ndarray):
        return getattr(leaf.dtype, "kind", "V") not in "OSUMm"
    return isinstance(leaf, float | complex | np.inexact)


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray | np.generic | float | int | complex)


def _as_type(value: Any, aval: Any) -> Any:
    if jnp.issubdtype(aval.dtype, jax.dtypes.extended):
        return value
    return jnp.asarray(value, aval.dtype)
