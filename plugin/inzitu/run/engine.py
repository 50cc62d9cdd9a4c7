"""The engine: runs the parallel parts of a job on Dask, a LocalCluster by default.

The local cluster is threads of one process: the gather of pixels and XLA both release the interpreter's lock, nothing
is copied between workers, and killing the job's process stops all of it.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from inzitu.errors import ServiceFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from inzitu import manifest


_LOOPBACK = "127.0.0.1:0"


class Engine:
    """A Dask cluster for the length of a job, opened when it is first needed.

    Parameters
    ----------
    section
        The manifest's engine: a scheduler's address or the threads of a local cluster.
    patience
        How long a scheduler may take to answer [s].
    """

    def __init__(self, section: manifest.Engine, *, patience: float = 20.0) -> None:
        self._section = section
        self._patience = patience
        self._client: Any = None
        self._cluster: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def map[T, R](self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[int, R]]:
        """Yield the index and the result of `function` for each item, as they are ready.

        Results are dropped as soon as they are yielded, and only a few are under way at once, so that memory is bounded
        by the items in flight and not by their number. What a worker had that died is done by another; after a few
        deaths over one item it is given up. An item may take any time, but a cluster none of whose workers takes work,
        for they are gone or rest because their memory is full, is waited for only as long as the manifest says.

        Raises
        ------
        ServiceFault
            The scheduler does not answer or was lost, no worker takes work, or an item kills every worker.
        """
        client = self._open()
        ready: SimpleQueue[Any] = SimpleQueue()
        index: dict[str, int] = {}
        waiting = enumerate(items)

        def submit(count: int) -> None:
            for position, item in islice(waiting, count):
                future = client.submit(function, item, pure=False)
                index[future.key] = position
                future.add_done_callback(ready.put)

        submit(2 * max(1, sum(client.nthreads().values())))
        while index:
            future = self._next(ready)
            yield index.pop(future.key), self._result(future)
            future.release()
            submit(1)

    def _next(self, ready: SimpleQueue[Any]) -> Any:
        limit = self._section.without_workers_seconds
        taking = monotonic()
        while True:
            try:
                return ready.get(timeout=min(1.0, limit / 2))
            except Empty:
                states = Counter(worker["status"] for worker in self._workers())
            if states["running"]:
                taking = monotonic()
            elif monotonic() - taking > limit:
                told = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "it has none"
                raise ServiceFault(
                    f"In the Dask cluster {self._section.scheduler} no worker took work for {limit:g} s ({told}). "
                    "A paused worker has its memory full: give the workers more, restart them or start further ones. "
                    "engine.without_workers_seconds in the manifest says how long a job waits."
                )

    def _workers(self) -> list[dict[str, Any]]:
        """Return what the scheduler knows of each worker; nothing of a scheduler that was lost, whose futures end."""
        return list(self._client.scheduler_info(n_workers=-1)["workers"].values())

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            return future.result()
        except KilledWorker as error:
            raise ServiceFault(
                "Workers of the Dask cluster died one after the other over the same piece of work, most likely for "
                "want of memory. Give them more, or look into their logs."
            ) from error
        except FutureCancelledError as error:
            raise ServiceFault(
                f"The Dask scheduler {self._section.scheduler} was lost. Start it, and run the job again."
            ) from error

    def _open(self) -> Any:
        if self._client is None:
            from distributed import Client, LocalCluster

            if self._section.scheduler is None:
                self._cluster = LocalCluster(
                    n_workers=1,
                    threads_per_worker=self._section.workers,
                    processes=False,
                    # Scheduler and worker answer HTTP whatever they are told, and on all interfaces unless told this.
                    scheduler_kwargs={"dashboard_address": _LOOPBACK, "dashboard": False},
                    worker_dashboard_address=_LOOPBACK,
                    dashboard_address=None,
                    memory_limit=0,
                    protocol="inproc://",
                )
            try:
                self._client = Client(
                    self._cluster or self._section.scheduler, timeout=self._patience, set_as_default=False
                )
            except OSError as error:
                raise ServiceFault(
                    f"The Dask scheduler {self._section.scheduler} does not answer within {self._patience:g} s: "
                    f"{error}. Start it, or set engine.scheduler to null for a local cluster."
                ) from error
        return self._client
