"""A branching primitive of a program, the user's line that called it, and those found so far."""

import dataclasses
import os
import re
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jax.extend import source_info_util
from jaxtyping import Array, UInt32

from jaxnet.gradcheck.kinks import branch_rules

# The checker's own frames are not the user's.
source_info_util.register_exclusion(os.path.dirname(os.path.dirname(__file__)) + os.sep)


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


@dataclass
class Found:
    """What a walk has met so far."""

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
        self.codes.append(branch_rules.pack(codes, tied))

    def add_all(self, other: "Found", codes: Any) -> None:
        """Note the branches of a part, with the codes that they had in the whole."""
        self.sites += other.sites
        self.codes += [codes[i] for i in range(len(other.sites))]
        self.unread += other.unread

    def stacked(self) -> UInt32[Array, " sites"]:
        """Return the codes as one array."""
        return jnp.stack(self.codes) if self.codes else jnp.zeros(0, jnp.uint32)


def site_of(eqn) -> Site:
    """Return the innermost line of the user's code, as JAX's own error messages find it."""
    text = source_info_util.summarize(eqn.source_info)
    match = re.match(r"(?P<file>.+?):(?P<line>\d+)(:\d+)? \(", text)
    return Site("", match["file"], int(match["line"])) if match else Site("")


def named(site: Site, eqn) -> Site:
    """Return the site with the name of the equation."""
    return dataclasses.replace(site, primitive=eqn.primitive.name)
