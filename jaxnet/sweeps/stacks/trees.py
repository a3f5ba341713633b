"""Pytrees of arrays as named arrays, and back."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def named_leaves(prefix: str, tree: object) -> dict[str, np.ndarray]:
    """Return the leaves of a tree under the prefix and their path in it."""
    return {
        prefix + jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def like_tree(tree: Any, tensors: Mapping[str, np.ndarray], prefix: str) -> Any:
    """Return the tree of the stored arrays; ValueError for other shapes and dtypes."""

    def find(path, leaf):
        name = prefix + jax.tree_util.keystr(path)
        found = tensors[name]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise ValueError(f"{name} should be {leaf.dtype}{list(leaf.shape)}")
        return found.copy()

    return jax.tree.map_with_path(find, tree)
