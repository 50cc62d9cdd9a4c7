"""What the compiler must not fuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax import lax


def unfused[T](values: T) -> T:
    """Let arrays, or a tree of them, be computed once, by loops of their own.

    A CPU would fuse them with what follows, and compute them as often as that reads them: random numbers three times,
    an image once for each of the ways to turn it.
    """
    barrier: Callable[[Any], T] = lax.optimization_barrier
    return barrier(values)
