"""The state of a run in flight, kept from time to time."""

import time
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.errors import DataError, RunFolderError
from jaxnet.tensors import read_tensors, write_tensors

T = TypeVar("T")


class Checkpoint:
    """Stores a pytree under `path` at most every `interval` seconds.

    `load(like)` gives the stored tree, or `like` itself where nothing is stored; the stored names,
    shapes and dtypes must be those of `like`.
    """

    def __init__(self, path: Path, interval: float = 30.0) -> None:
        self.path = path
        self.interval = interval
        self._saved_at = time.monotonic()

    def save(self, tree: object, *, now: bool = False) -> None:
        """Store the tree if `interval` has passed since the last time, or if `now`."""
        if not now and time.monotonic() - self._saved_at < self.interval:
            return
        write_tensors(self.path, {name: np.asarray(leaf) for name, leaf in _named_leaves(tree)})
        self._saved_at = time.monotonic()

    def load(self, like: T) -> T:
        """Return the stored tree in the structure of `like`, or `like` where nothing is stored."""
        if not self.path.exists():
            return like
        try:
            stored, _ = read_tensors(self.path)
        except DataError as error:
            raise RunFolderError(f"{error}. Remove it to start this part again") from error
        leaves = []
        names = {name for name, _ in _named_leaves(like)}
        if more := sorted(stored.keys() - names):
            raise RunFolderError(
                f"the checkpoint {self.path} is of another run: it holds {more[0]}. "
                f"Remove it to start this part again"
            )
        for name, leaf in _named_leaves(like):
            found = stored.get(name)
            if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
                raise RunFolderError(
                    f"the checkpoint {self.path} is of another run: {name} should be "
                    f"{leaf.dtype}{list(leaf.shape)}. Remove it to start this part again"
                )
            leaves.append(found if isinstance(leaf, np.ndarray) else jnp.asarray(found))
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def remove(self) -> None:
        """Forget what is stored."""
        self.path.unlink(missing_ok=True)


def _named_leaves(tree: object) -> list[tuple[str, jax.Array | np.ndarray]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]
