"""The tree of faults: what can go wrong, whose fault it is, and how the protocols say it.

::

    Fault
    ├── UserFault            400  the request cannot be served as it stands
    │   ├── ParameterFault   400  a parameter is unknown, missing or out of its limits
    │   ├── TableFault       400  an uploaded table lacks what it must have
    │   ├── QueryFault       400  an ADQL query that cannot be parsed or is not allowed
    │   ├── NotFoundFault    404  no job, table, model or artefact of that name
    │   ├── PhaseFault       400  the job's phase does not allow what was asked
    │   ├── LimitFault       413  more than the deployment allows
    │   └── GoneFault        410  it existed; its results have been destroyed
    └── ServiceFault         500  the service, or what it stands on, failed
        ├── ManifestFault    500  the deployment's manifest is wrong
        ├── ArchiveFault     500  a survey or catalogue of the host cannot be read
        ├── StorageFault     507  no room, or no right, to write
        └── BusyFault        503  try again later

Each class carries `code`, the word that DALI and UWS error documents begin with, and `status`, its HTTP status
(DALI 1.1, section 4.2). Messages name the value, the limit and the remedy.

Kernels and the record know nothing of this tree: they raise `ValueError` and `OSError`; `as_fault` maps those.
"""

from __future__ import annotations

import errno
import os
from os import PathLike
from typing import ClassVar


class Fault(Exception):
    """Something that went wrong and that somebody can be told."""

    code: ClassVar[str] = "Error"
    status: ClassVar[int] = 500


class UserFault(Fault):
    """The request cannot be served as it stands; sending it again changes nothing."""

    code = "UsageError"
    status = 400


class ParameterFault(UserFault):
    """A parameter is unknown, missing, malformed or out of its limits."""


class TableFault(UserFault):
    """An uploaded table lacks what it must have: columns, rows, values."""


class QueryFault(UserFault):
    """An ADQL query that cannot be parsed or is not allowed."""


class NotFoundFault(UserFault):
    """No job, table, model or artefact of that name."""

    code = "NotFound"
    status = 404


class PhaseFault(UserFault):
    """The job's phase does not allow what was asked of it."""


class GoneFault(UserFault):
    """It existed, and its results have been destroyed."""

    code = "Gone"
    status = 410


class LimitFault(UserFault):
    """More than this deployment allows."""

    code = "LimitExceeded"
    status = 413


class ServiceFault(Fault):
    """The service, or what it stands on, failed; the request may be right."""

    code = "FatalFault"


class ManifestFault(ServiceFault):
    """The deployment's manifest is wrong; only its operator can mend it."""


class ArchiveFault(ServiceFault):
    """A survey or catalogue of the host cannot be read."""


class StorageFault(ServiceFault):
    """No room, or no right, to write."""

    status = 507


class BusyFault(ServiceFault):
    """The service cannot do it now; it may later."""

    code = "TransientFault"
    status = 503


def as_fault(error: BaseException) -> Fault:
    """Return the fault that stands for an error of a kernel, the record or the operating system.

    A `ValueError` of a kernel is about what it was given, so it is the user's; anything unforeseen is the service's.
    """
    match error:
        case Fault():
            return error
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EROFS):
            return StorageFault(_no_room(str(error)))
        case ValueError() if os.strerror(errno.ENOSPC) in str(error):  # as the library of the checkpoints says it
            return StorageFault(_no_room(os.strerror(errno.ENOSPC)))
        case MemoryError():
            return ServiceFault("Memory ran out. Ask for fewer rows, smaller stamps, a smaller network or batch.")
        case ValueError():
            return UserFault(str(error))
        case OSError(strerror=str(reason), filename=str() | bytes() | PathLike() as path):
            return ServiceFault(f"{os.fspath(path)!r}: {reason}.")
        case _:
            return ServiceFault(f"{type(error).__name__}: {error}")


def _no_room(reason: str) -> str:
    return f"{reason}. Nothing already stored is lost; free some space and run the job again."
