"""Where a function has kinks: which side won at every branch of its program, and on which line."""

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import eval_jaxpr
from jax.extend import core, source_info_util
from jaxtyping import Array, UInt32

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck import branches

# The checker's own frames are not the user's.
source_info_util.register_exclusion(os.path.dirname(__file__) + os.sep)

_DEAD, _STOPPED, _DIFFERENTIABLE = 0, 1, 2
"""How a value reaches the result: not at all, only through stop_gradient, or freely."""


@dataclass(frozen=True)
class Site:
    """One branching primitive of the program, and the user's line that called it.

    >>> print(Site("max", "nets/net.py", 47), "and", Site("max"))
    max, net.py:47 and max, unknown line
    """

    primitive: str
    file: str = "unknown"
    line: int = 0

    def __str__(self) -> str:
        where = f"{os.path.basename(self.file)}:{self.line}" if self.line else "unknown line"
        return f"{self.primitive}, {where}"


@dataclass(frozen=True)
class BranchSignature:
    """Which side won at each site, for one point.

    `codes` has a uint32 a site: a hash of the winners, and in its lowest bit whether operands tie.
    `unread` are the primitives whose inside could not be read (pallas_call, a callback): where
    there are any, equal signatures prove nothing.
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
        """The sites where the point lies on the boundary: max of equal operands, abs at 0."""
        return _report(self.sites, self.codes & 1 == 1)


class SignatureFunction(NamedTuple):
    """`codes(*args)` -> uint32 [sites], for `jit` and `vmap`; see `BranchSignature`."""

    codes: Callable[..., UInt32[Array, " sites"]]
    sites: tuple[Site, ...]
    unread: tuple[Site, ...]

    def at(self, *args: Any) -> BranchSignature:
        """Return the signature at one point."""
        return BranchSignature(self.sites, np.asarray(self.codes(*args)), self.unread)


def signature_function(f: Callable[..., Any], *args: Any) -> SignatureFunction:
    """Read the program of f at args' shapes and dtypes; return what computes its winners.

    Every float comparison, max, min, abs, sign, where, reduce_max, argmax, sort, rounding ... that
    depends on a float argument and reaches a float result is a site. Call `codes` under the same
    `jax.enable_x64` as this. Arguments other than arrays and floats (integers, strings, None) are
    constants of the program; so are args' values in `codes(*other)` for those. A program that
    cannot be read has no sites and is `unread`.

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

    found = _Found()

    def run(*values):
        found.clear()
        _walk(program, consts, values, inexact, needed, None, found)
        return found.stacked()

    try:
        program, consts = _open(jax.make_jaxpr(flat)(*(leaves[i] for i in traced)))
        types = [v.aval for v in program.invars]
        inexact = [_is_inexact(v) for v in program.invars]
        needed = [_DIFFERENTIABLE if _is_inexact(v) else _DEAD for v in program.outvars]
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

    return SignatureFunction(codes, tuple(found.sites), tuple(dict.fromkeys(found.unread)))


def signature(f: Callable[..., Any], *args: Any) -> BranchSignature:
    """Return which side won at each branch of f(*args); see `signature_function`.

    >>> x = jnp.array([1.0, 0.0])
    >>> [site.primitive for site in signature(lambda x: abs(x).sum(), x).tied]
    ['abs']
    """
    return signature_function(f, *args).at(*args)


def changed_sites(a: BranchSignature, b: BranchSignature) -> list[Site]:
    """Return the sites where another side won; none of them: no kink lies between the two."""
    if a.sites != b.sites:
        raise ConfigurationError(
            f"expected two signatures of one program, got {len(a.sites)} and {len(b.sites)} sites "
            f"that differ: take both from one signature_function"
        )
    return _report(a.sites, a.codes >> 1 != b.codes >> 1)


def sites_near(
    f: Callable[..., Any] | SignatureFunction,
    args: Sequence[Any],
    plus: Sequence[Any],
    minus: Sequence[Any],
) -> list[Site]:
    """Return the sites of the kinks between two perturbed argument tuples, or at args itself.

    That is where the winner differs between plus and minus, or where operands tie at args and the
    tie breaks on one side at least: a tie that both keep has no kink between them. f may be its
    `signature_function`, which saves reading the program again.

    >>> x, h = jnp.array([1.0, 0.0]), jnp.array([0.0, 1e-3])
    >>> sites = sites_near(lambda x: jnp.maximum(x, 0).sum(), [x], [x + h], [x - h])
    >>> [site.primitive for site in sites]
    ['max']
    """
    function = f if isinstance(f, SignatureFunction) else signature_function(f, *args)
    found = [np.asarray(function.codes(*point)) for point in (args, plus, minus)]
    at, up, down = (code >> 1 for code in found)
    tied = found[0] & 1 == 1
    return _report(function.sites, (up != down) | (tied & ((at != up) | (at != down))))


def _report(sites: Sequence[Site], chosen: np.ndarray) -> list[Site]:
    """Return the chosen sites, once each; a `where` only if its comparison stands elsewhere."""
    picked = list(dict.fromkeys(site for site, yes in zip(sites, chosen, strict=True) if yes))
    lines = {(s.file, s.line) for s in picked if s.primitive not in _CONSEQUENCES}
    return [s for s in picked if s.primitive not in _CONSEQUENCES or (s.file, s.line) not in lines]


_CONSEQUENCES = {"select_n", "cond"}

_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vmap_call": "call",
}
"""Primitive -> the parameter that holds the program it runs."""

_SMOOTH = {"logaddexp", "logaddexp2", "softplus", "log_sigmoid", "sinc", "xlogy", "xlog1py"}
"""Functions of JAX that branch for the sake of rounding or range, and have no kink."""


@dataclass
class _Found:
    """What a walk has met so far."""

    sites: list[Site] = field(default_factory=list)
    codes: list[Array] = field(default_factory=list)
    unread: list[Site] = field(default_factory=list)

    def clear(self) -> None:
        """Forget a former trace of the same program."""
        for kind in (self.sites, self.codes, self.unread):
            kind.clear()

    def add(self, site: Site, codes: Array, tied: Array) -> None:
        self.sites.append(site)
        self.codes.append(branches.pack(codes, tied))

    def add_all(self, other: "_Found", codes: Any) -> None:
        self.sites += other.sites
        self.codes += [codes[i] for i in range(len(other.sites))]
        self.unread += other.unread

    def stacked(self) -> UInt32[Array, " sites"]:
        return jnp.stack(self.codes) if self.codes else jnp.zeros(0, jnp.uint32)


def _walk(program, consts, values, depends, needed, caller, found):
    """Evaluate the program equation by equation; return its results and which depend on x.

    `depends` says which inputs vary with the float arguments, `needed` how each result is used,
    `caller` the site that stands for everything inside a function of JAX.
    """
    levels = _levels(program, needed)
    env = dict(zip(_inputs(program), (*consts, *values), strict=True))
    varying = {v for v, yes in zip(program.invars, depends, strict=True) if yes}

    def read(atom):
        return _value(atom) if isinstance(atom, core.Literal) else env[atom]

    def varies(atom):
        return not isinstance(atom, core.Literal) and (atom in varying or _is_mutable(atom))

    for eqn in program.eqns:
        used = [levels.get(v, _DEAD) for v in eqn.outvars]
        if not any(used) and not _writes(eqn):
            continue
        operands = [read(v) for v in eqn.invars]
        moving = [varies(v) for v in eqn.invars]
        site = caller or _site(eqn)
        if not any(moving):
            results, moved = _evaluate(eqn, operands), [False] * len(eqn.outvars)
        else:
            part = _Found()
            try:
                results, moved = _step(eqn, operands, moving, used, site, caller, part)
            except Exception:  # a primitive whose parameters this file does not know
                part = _Found(unread=[_named(site, eqn)])
                results, moved = _evaluate(eqn, operands), [True] * len(eqn.outvars)
            found.add_all(part, part.codes)
        env.update(zip(eqn.outvars, results, strict=True))
        varying.update(v for v, yes in zip(eqn.outvars, moved, strict=True) if yes)
    alive = [isinstance(v, core.Literal) or v in env for v in program.outvars]
    results = [read(v) if yes else None for v, yes in zip(program.outvars, alive, strict=True)]
    return results, [varies(v) for v in program.outvars]


def _step(eqn, operands, moving, used, site, caller, found):
    """Evaluate one equation that varies with x, its branches into `found`."""
    name, params = eqn.primitive.name, eqn.params
    if name in _CALLS:
        inner, consts = _open(params[_CALLS[name]])
        file, function = _source(inner)
        if file.startswith(_JAX):
            # JAX caches the program of `jnp.where` with the line of the first call to it.
            caller = caller or site
            if function in _SMOOTH:
                return _evaluate(eqn, operands), [True] * len(eqn.outvars)
        return _walk(inner, consts, operands, moving, used, caller, found)
    if name in _LOOPS:
        return _LOOPS[name](eqn, operands, moving, max(used), site, caller, found)
    if name == "sort" and branches.branches(name, operands, operands):
        results, codes, tied = branches.sort(params, [*map(jnp.asarray, operands)])
        found.add(_named(site, eqn), codes, tied)
        return results, [True] * len(results)
    results = _evaluate(eqn, operands)
    if name in branches.OPAQUE or any(map(_may_branch, _programs(params))):
        found.unread.append(_named(site, eqn))
    elif name in branches.RULES and _is_site(eqn, moving, max(used)):
        codes, tied = branches.RULES[name](params, [*map(jnp.asarray, operands)], results)
        found.add(_named(site, eqn), codes, tied)
    return results, [True] * len(results)


def _is_site(eqn, moving, used) -> bool:
    name = eqn.primitive.name
    if name == "select_n" and not moving[0]:
        return False
    if name in branches.CONTINUOUS and used == _STOPPED:
        return False
    if name in branches.COMPARISONS and eqn.invars[0] is eqn.invars[1]:
        return False  # x != x asks for NaN
    return branches.branches(name, _types(eqn.invars), _types(eqn.outvars))


def _scan(eqn, operands, moving, used, site, caller, found):
    body, consts = _open(eqn.params["jaxpr"])
    # Stacked inputs and outputs have one axis more outside than inside.
    per_step = _count(eqn.invars, body.invars, lambda outer, inner: outer.ndim != inner.ndim)
    carried = _count(eqn.outvars, body.outvars, lambda outer, inner: outer.ndim == inner.ndim)
    fixed = len(operands) - carried - per_step
    depends = [*moving[:fixed], *[True] * carried, *moving[fixed + carried :]]
    inner = _Found()

    def step(carry, xs):
        inner.clear()
        values = [*operands[:fixed], *carry, *xs]
        outs, _ = _walk(body, consts, values, depends, [used] * len(body.outvars), caller, inner)
        return outs[:carried], (outs[carried:], inner.stacked())

    carry, (ys, codes) = lax.scan(
        step,
        operands[fixed : fixed + carried],
        operands[fixed + carried :],
        length=eqn.params["length"],
        reverse=eqn.params["reverse"],
        unroll=eqn.params["unroll"],
    )
    found.add_all(inner, branches.fold(codes))
    return [*carry, *ys], [True] * len(eqn.outvars)


def _while(eqn, operands, moving, used, site, caller, found):
    test, test_consts = _open(eqn.params["cond_jaxpr"])
    body, body_consts = _open(eqn.params["body_jaxpr"])
    a, b = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    test_fixed, body_fixed, start = operands[:a], operands[a : a + b], operands[a + b :]
    carried = [True] * len(start)
    inner = _Found()

    def decide(carry, inner):
        depends = [*moving[:a], *carried]
        (go,), _ = _walk(
            test, test_consts, [*test_fixed, *carry], depends, [_DIFFERENTIABLE], caller, inner
        )
        return go

    def step(carry):
        inner.clear()
        decide(carry, inner)
        depends, needed = [*moving[a : a + b], *carried], [used] * len(carried)
        return _walk(body, body_consts, [*body_fixed, *carry], depends, needed, caller, inner)[0]

    jax.eval_shape(step, start)
    total = jnp.zeros(len(inner.sites), jnp.uint32)

    def step_and_fold(state):
        carry = step(state[0])
        return carry, branches.fold_next(state[1], inner.stacked())

    carry, total = lax.while_loop(
        lambda state: decide(state[0], _Found()), step_and_fold, (start, total)
    )
    # The test that ends the loop has winners too.
    last = _Found()
    decide(carry, last)
    padded = jnp.zeros_like(total).at[: len(last.sites)].set(last.stacked())
    found.add_all(inner, branches.fold_next(total, padded))
    return carry, [True] * len(carry)


def _cond(eqn, operands, moving, used, site, caller, found):
    index, *operands = operands
    opened = [_open(branch) for branch in eqn.params["branches"]]
    inner = [_Found() for _ in opened]

    def take(i):
        def branch(*values):
            inner[i].clear()
            program, consts = opened[i]
            needed = [used] * len(program.outvars)
            outs, _ = _walk(program, consts, values, moving[1:], needed, caller, inner[i])
            return outs

        return branch

    for i in range(len(opened)):
        jax.eval_shape(take(i), *operands)

    def take_and_pad(i):
        def branch(*values):
            outs = take(i)(*values)
            parts = [jnp.zeros(len(other.sites), jnp.uint32) for other in inner]
            parts[i] = inner[i].stacked()
            return outs, jnp.concatenate(parts)

        return branch

    results, codes = lax.switch(index, [take_and_pad(i) for i in range(len(opened))], *operands)
    if moving[0]:
        taken = jnp.asarray(index).astype(jnp.uint32)
        found.add(_named(site, eqn), taken, jnp.array(False))
    start = 0
    for part in inner:
        found.add_all(part, codes[start:])
        start += len(part.sites)
    return results, [True] * len(results)


def _count(outer, inner, condition) -> int:
    return sum(condition(a.aval, b.aval) for a, b in zip(outer, inner, strict=True))


_LOOPS = {"scan": _scan, "while": _while, "cond": _cond}


def _levels(program, needed) -> dict[Any, int]:
    """Return how each variable of the program reaches its needed results."""
    levels = {}

    def raise_to(atom, level):
        if not isinstance(atom, core.Literal):
            levels[atom] = max(level, levels.get(atom, _DEAD))

    for atom, level in zip(program.outvars, needed, strict=True):
        raise_to(atom, level)
    for eqn in reversed(program.eqns):
        used = [levels.get(v, _DEAD) for v in eqn.outvars]
        name = eqn.primitive.name
        if name in _CALLS and _CALLS[name] in eqn.params:
            inner, _ = _open(eqn.params[_CALLS[name]])
            within = _levels(inner, used)
            # An operand that the program ignores is still an operand.
            least = _STOPPED if any(used) else _DEAD
            ins = [within.get(v, least) for v in inner.invars]
        else:
            level = _DIFFERENTIABLE if _writes(eqn) else max(used, default=_DEAD)
            level = min(level, _STOPPED) if name == "stop_gradient" else level
            ins = [level] * len(eqn.invars)
        for atom, level in zip(eqn.invars, ins, strict=True):
            raise_to(atom, level)
    return levels


def _evaluate(eqn, operands) -> list[Any]:
    """Evaluate one equation as JAX does, whatever its primitive."""
    pairs = zip(eqn.invars, operands, strict=True)
    slots = {v: operand for v, operand in pairs if not isinstance(v, core.Literal)}
    results = [v for v in eqn.outvars if not isinstance(v, core.DropVar)]
    name = eqn.primitive.name
    about = core.DebugInfo("signature", name, ("",) * len(slots), ("",) * len(results))
    single = core.Jaxpr((), list(slots), results, [eqn], eqn.effects, about)
    values = dict(zip(results, eval_jaxpr(single, (), *slots.values()), strict=True))
    return [values.get(v) for v in eqn.outvars]


def _open(closed) -> tuple[core.Jaxpr, Sequence[Any]]:
    """Return a program and its constants, which stand in a ClosedJaxpr before jax 0.11."""
    return getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())


def _inputs(program) -> list[core.Var]:
    return [*program.constvars, *program.invars]


def _programs(params):
    """Yield the programs among the parameters of an equation, in tuples too."""
    for value in jax.tree.leaves(list(params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
        if hasattr(value, "eqns"):
            yield _open(value)[0]


def _may_branch(program) -> bool:
    return any(
        eqn.primitive.name in branches.OPAQUE
        or branches.branches(eqn.primitive.name, _types(eqn.invars), _types(eqn.outvars))
        or any(map(_may_branch, _programs(eqn.params)))
        for eqn in program.eqns
    )


def _writes(eqn) -> bool:
    """Whether the equation changes a mutable array, so that it matters with no result used."""
    return bool(eqn.effects) and any(map(_is_mutable, eqn.invars))


def _is_mutable(atom) -> bool:
    return "Ref" in type(atom.aval).__name__


def _value(literal: core.Literal) -> np.ndarray:
    aval: Any = literal.aval
    return np.asarray(literal.val, aval.dtype)


def _types(atoms) -> list[Any]:
    return [atom.aval for atom in atoms]


def _is_inexact(atom: Any) -> bool:
    return jnp.issubdtype(atom.aval.dtype, np.inexact)


_JAX = os.path.dirname(jax.__file__) + os.sep


def _source(program) -> tuple[str, str]:
    """Return the file and the name of the Python function that a program was traced from."""
    text = getattr(program.debug_info, "func_src_info", None) or ""
    match = re.match(r"(?P<name>.+?) at (?P<file>.+):\d+$", text)
    return (match["file"], match["name"]) if match else ("", "")


def _site(eqn) -> Site:
    """Return the innermost line of the user's code, as JAX's own error messages find it."""
    text = source_info_util.summarize(eqn.source_info)
    match = re.match(r"(?P<file>.+?):(?P<line>\d+)(:\d+)? \(", text)
    return Site("", match["file"], int(match["line"])) if match else Site("")


def _named(site: Site, eqn) -> Site:
    return dataclasses.replace(site, primitive=eqn.primitive.name)


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
