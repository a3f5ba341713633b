"""Branching primitives of a program, each with the user's line that called it, and their record."""

import dataclasses
import os
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend import source_info_util
from jaxtyping import Array, UInt32

from jaxnet.gradcheck.kinks.branch_rules import pack

# Frames of the whole checker are skipped: a site is a line of the user's code.
_CHECKER = os.path.dirname(os.path.dirname(__file__))
source_info_util.register_exclusion(_CHECKER + os.sep)


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

    def renamed(self, eqn: Any) -> "Site":
        """Return the site with the primitive of an equation."""
        return dataclasses.replace(self, primitive=eqn.primitive.name)


@dataclass
class BranchRecord:
    """The branches that a walk through a program has met so far."""

    sites: list[Site] = field(default_factory=list)
    codes: list[Array] = field(default_factory=list)
    unread: list[Site] = field(default_factory=list)

    def clear(self) -> None:
        """Forget a former trace of the same program."""
        for kind in (self.sites, self.codes, self.unread):
            kind.clear()

    def add(self, site: Site, codes: Array, tied: Array) -> None:
        """Note one branch."""
        self.sites.append(site)
        self.codes.append(pack(codes, tied))

    def add_all(self, inner: "BranchRecord", codes: Any) -> None:
        """Note the branches of an inner program, with the codes they have in the outer one."""
        self.sites += inner.sites
        self.codes += [codes[i] for i in range(len(inner.sites))]
        self.unread += inner.unread

    def stacked(self) -> UInt32[Array, " sites"]:
        """Return the codes as one array."""
        return jnp.stack(self.codes) if self.codes else jnp.zeros(0, jnp.uint32)


class Visit(NamedTuple):
    """One equation in the walk through a program, with its operands and what depends on it.

    `varying` marks the operands that depend on a float argument, `used` says how each result
    reaches the outputs. `caller` is the site that stands for all of a function of JAX.
    """

    eqn: Any
    operands: list[Any]
    varying: list[bool]
    used: list[int]
    site: Site
    caller: Site | None


def site_of(eqn: Any) -> Site:
    """Return the innermost line of the user's code, as JAX's own error messages find it."""
    text = source_info_util.summarize(eqn.source_info)
    match = re.match(r"(?P<file>.+?):(?P<line>\d+)(:\d+)? \(", text)
    return Site("", match["file"], int(match["line"])) if match else Site("")
