"""The demo's service: ``inzitu serve`` and ``inzitu work`` as the separate processes that they are."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

import psutil

from inzitu.client import Service
from inzitu.errors import ServiceFault

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_SECONDS_TO_START = 60


class RunningService:
    """The two processes of a deployment on a free port of the loopback interface; ended with the block.

    Parameters
    ----------
    manifest
        The deployment's manifest.
    logs
        Folder for the processes' logs.
    """

    def __init__(self, manifest: Path, logs: Path) -> None:
        self.manifest, self.logs = manifest, logs
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        self.start("serve", "--port", str(self.port))
        self.start("work")
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End both processes."""
        for _, process in self._processes:
            process.terminate()
        for _, process in self._processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def process(self, command: str) -> psutil.Process:
        """Return the process that was last started for a command, `serve` or `work`."""
        return psutil.Process([process.pid for name, process in self._processes if name == command][-1])

    def start(self, command: str, *options: str) -> None:
        """Start a command of the deployment as a process of its own."""
        arguments = [sys.executable, "-m", "inzitu.cli", command, "--manifest", str(self.manifest), *options]
        with (self.logs / f"{command}.log").open("ab") as log:
            self._processes.append((command, subprocess.Popen(arguments, stdout=log, stderr=log)))

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < deadline:
            for _, process in self._processes:
                if process.poll() is not None:
                    raise ServiceFault(f"A process of the service ended at once; {self.logs} holds its log.")
            with contextlib.suppress(ServiceFault), Service(self.url) as service:
                service.request("GET", "/tap/availability")
                return
            time.sleep(0.2)
        raise ServiceFault(f"The service did not answer within {_SECONDS_TO_START} s; {self.logs} holds its logs.")


class PeakMemory:
    """Watches the resident memory of this process and of all that it started, together.

    `peak` is the highest sum seen [byte]; pages that processes share are counted for each.
    """

    def __init__(self, every: float = 0.5) -> None:
        self.peak = 0
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._over.is_set():
            total = 0
            for process in (me, *me.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
            self.peak = max(self.peak, total)
            self._over.wait(self._every)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
