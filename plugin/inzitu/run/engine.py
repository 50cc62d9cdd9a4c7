"""The engine: runs the parallel parts of a job on Dask, a LocalCluster by default.

The local cluster is threads of one process: the gather of pixels and XLA both release the interpreter's lock, nothing
is copied between workers, and killing the job's process stops all of it.
"""

from __future__ import annotations

from itertools import islice
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
        deaths over one item it is given up.

        Raises
        ------
        ServiceFault
            The scheduler does not answer or was lost, or an item kills every worker.
        """
        from distributed import as_completed  # a second of import that only a running job pays

        client = self._open()
        running = as_completed(loop=client.loop)
        index: dict[str, int] = {}
        waiting = enumerate(items)

        def submit(count: int) -> None:
            for position, item in islice(waiting, count):
                future = client.submit(function, item, pure=False)
                index[future.key] = position
                running.add(future)

        submit(2 * max(1, sum(client.nthreads().values())))
        for future in running:
            yield index.pop(future.key), self._result(future)
            future.release()
            submit(1)

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
