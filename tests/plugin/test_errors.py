from __future__ import annotations

import errno
import inspect

import pytest

from inzitu import errors
from inzitu.errors import Fault, ServiceFault, StorageFault, UserFault, as_fault


def faults() -> list[type[Fault]]:
    return [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Fault)]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    for kind in faults():
        assert kind.__name__ in (errors.__doc__ or "")
        drawn = next(line for line in (errors.__doc__ or "").splitlines() if kind.__name__ in line)
        if kind is not Fault:
            assert str(kind.status) in drawn.split()


def test_user_faults_are_4xx_and_service_faults_5xx() -> None:
    for kind in faults():
        if issubclass(kind, UserFault):
            assert 400 <= kind.status < 500
        elif kind is not Fault:
            assert 500 <= kind.status < 600


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageFault, "free some space"),
        (ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device"), StorageFault, "free some space"),
        (ValueError("radius is -1"), UserFault, "radius is -1"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a"), ServiceFault, "'/a': No such file"),
        (MemoryError(), ServiceFault, "fewer rows"),
        (ZeroDivisionError("division by zero"), ServiceFault, "ZeroDivisionError"),
        (UserFault("as it is"), UserFault, "as it is"),
    ],
)
def test_what_kernels_raise_becomes_the_fault_that_it_is(error: Exception, kind: type[Fault], words: str) -> None:
    fault = as_fault(error)
    assert type(fault) is kind
    assert words in str(fault)
