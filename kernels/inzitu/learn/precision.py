"""In which precision a formula is computed: float32 under jit, float64 for numpy arrays.

Each formula of the scores and of the distributions is written once, in JAX. Called with JAX arrays it stays in their
precision, traced or not; called with numpy arrays, lists or numbers alone it is computed in float64 and gives numpy
arrays back. The switch is JAX's own, thread-local and undone on the way out: nothing global changes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def float64_outside(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Let a formula of JAX arrays take numpy arrays too, in float64, and give numpy arrays back."""
    compiled = jax.jit(formula)

    @functools.wraps(formula)
    def either(*arrays: Any, **options: Any) -> Any:
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((arrays, options))):
            return compiled(*arrays, **options)
        with jax.enable_x64(True):
            doubles = jax.tree.map(_float64, (arrays, options), is_leaf=_is_list)
            return jax.tree.map(np.asarray, compiled(*doubles[0], **doubles[1]))

    return either


def _is_list(argument: Any) -> bool:
    return isinstance(argument, list)


def _float64(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    return array if array.dtype == bool else array.astype(np.float64)


def pytree[T](cls: type[T]) -> type[T]:
    """Register a frozen dataclass with JAX: its arrays are leaves, fields of metadata ``static=True`` are not.

    Unlike `jax.tree_util.register_dataclass` it does not call the constructor, which may thus refuse illegal values
    although JAX rebuilds its trees around placeholders.
    """
    fields = vars(cls)["__dataclass_fields__"].values()
    leaves = [field.name for field in fields if not field.metadata.get("static")]
    static = [field.name for field in fields if field.metadata.get("static")]

    def flatten(tree: T) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(tree, name) for name in leaves], tuple(getattr(tree, name) for name in static)

    def unflatten(constants: tuple[Any, ...], arrays: Any) -> T:
        tree = object.__new__(cls)
        for name, value in zip(leaves + static, (*arrays, *constants), strict=True):
            object.__setattr__(tree, name, value)
        return tree

    jax.tree_util.register_pytree_node(cls, flatten, unflatten)
    return cls
