"""The road: what a remote user does, from two lists of quasars to redshifts asked for in ADQL, and the proof of it.

The service is a separate process and is spoken to with pyvo and plain HTTP alone. The truth of the blind quasars stays
here; the service never sees it. See also `inzitu.demo.baselines` for what the result is compared with.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyvo

from inzitu.archive.stamps import build, demo_stamps
from inzitu.client import Service
from inzitu.demo import questions
from inzitu.demo.measures import baselines, crps, pit, point_measures
from inzitu.demo.quasars import Quasars
from inzitu.demo.report import write_report
from inzitu.demo.service import PeakMemory, RunningService
from inzitu.errors import ServiceFault
from inzitu.manifest import Manifest
from inzitu.run.pictures import draw_pdfs, draw_pit, draw_redshifts
from inzitu.terminal import ERR, OUT, progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from astropy.table import Table

    from inzitu.client import JobState

LONGEST_SECONDS, MOST_GB, MOST_NMAD = 240, 3.0, 0.035


def play(directory: Path, *, serve: bool = False) -> bool:
    """Play the road in a directory and leave report.json and report.html there; return whether every check holds.

    Parameters
    ----------
    directory
        Gets archive/ (kept from one demo to the next) and the report.
    serve
        Leave the service up until interrupted.
    """
    began = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    manifest = _archive(directory)
    with PeakMemory() as memory, RunningService(manifest, directory / "logs") as running:
        report = _played(directory, manifest, running)
        report["seconds"] = round(time.monotonic() - began, 1)
        report["peak_rss_gb"] = round(memory.peak / 1e9, 2)
        report["checks"] |= {
            f"under {LONGEST_SECONDS} s": report["seconds"] < LONGEST_SECONDS,
            f"under {MOST_GB:g} GB": report["peak_rss_gb"] < MOST_GB,
        }
        page = write_report(directory, report)
        _say(report, page)
        if serve:
            _leave_up(running, report)
    return all(report["checks"].values())


def _archive(directory: Path) -> Path:
    """Build the archive unless it is there, and return its manifest."""
    folder = directory / "archive"
    manifest = folder / "manifest.yaml"
    if not manifest.exists():
        with progress_bar() as bar:
            task = bar.add_task("building the archive: 5 HiPS of 812 quasars")
            build(demo_stamps(), folder, progress=lambda done, total: bar.update(task, completed=done, total=total))
    return manifest


def _played(directory: Path, manifest: Path, running: RunningService) -> dict[str, Any]:
    """Send the lists, follow the job, ask and measure; return the report."""
    known, blind = Quasars.shipped().parted()
    service = Service(running.url)
    lists = {
        "training": known.write(directory / "training.vot", redshifts=True),
        "targets": blind.write(directory / "targets.vot", redshifts=False),
    }
    name = f"quasars_{time.strftime('%Y%m%d_%H%M%S', time.gmtime())}"
    job = _followed(service, service.submit("train-predict", lists, {"TABLE": name}).url)
    table = f"predictions.{name}"
    session = questions.CountingSession()
    tap = pyvo.dal.TAPService(f"{running.url}/tap", session=session)
    rows, checks = questions.ask_for_all(tap, table, blind)
    crps_by_adql, more = questions.ask_functions(tap, table, rows, blind)
    checks |= more
    measured = _measured(directory, rows, known, blind)
    model = str(rows["model_id"][0])
    checks |= questions.fetch_bundle(service, model, directory / "model")
    checks |= questions.fetch_provenance(service, job.id, directory)
    checks |= questions.pictures(service, job, directory)
    checks["the web process never loads JAX"] = questions.never_loads_jax(running.port)
    sent = service.bytes_received + session.bytes_received
    surveys = [entry.hips for entry in Manifest.load(manifest).archive.surveys]
    checks |= questions.reproduce(directory / "model", surveys, rows)
    checks["inzitu verify: every link of the chain holds"] = _verifies(manifest, job.id)
    checks |= {
        "CRPS by ADQL is the CRPS by quadrature": bool(np.isclose(crps_by_adql, measured["crps"], atol=1e-3)),
        "CRPS below the neighbours'": measured["crps"] < measured["crps_neighbours"],
        "CRPS below the climatology's": measured["crps"] < measured["crps_climatology"],
        f"nmad <= {MOST_NMAD}": measured["nmad"] <= MOST_NMAD,
    }
    return {
        **measured,
        "bytes_read": int(float(job.info.get("bytes_read", 0))),
        "bytes_sent": sent,
        "known": len(known),
        "blind": len(blind),
        "network": "dcmdn-a with a mixture of 5",
        "table": table,
        "job": job.id,
        "model": model,
        "server": running.url,
        "checks": checks,
    }


def _followed(service: Service, url: str) -> JobState:
    """Show the job's progress, step by step, and return it complete."""
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}
        for state in service.follow(url):
            if state.ended or (state.step and state.step not in tasks):  # the steps before are done
                for step, task in tasks.items():
                    bar.update(task, description=step, completed=1.0)
            if state.step and not state.ended:
                if state.step not in tasks:
                    tasks[state.step] = bar.add_task(state.step, total=1.0)
                bar.update(tasks[state.step], description=state.summary, completed=state.fraction)
    if state.phase != "COMPLETED":
        raise ServiceFault(f"The job ended as {state.phase}: {state.message}")
    return state


def _measured(directory: Path, rows: Table, known: Quasars, blind: Quasars) -> dict[str, float]:
    """Score the served PDFs against the truth that was kept, beside the baselines, and draw them."""
    weights, means, sigmas = (np.stack(rows[name]).astype(float) for name in ("weights", "means", "sigmas"))
    median = np.asarray(rows["z_median"], dtype=float)
    shown = np.argsort(blind.z)[np.linspace(0, len(blind) - 1, 12).astype(int)]
    draw_pdfs(
        directory / "pdfs.png",
        weights=weights[shown],
        means=means[shown],
        sigmas=sigmas[shown],
        names=[f"SDSS {name}" for name in blind.name[shown]],
        z_predicted=median[shown],
        z_true=blind.z[shown],
    )
    caption = f"{len(blind)} blind quasars"
    draw_redshifts(
        directory / "redshifts.png",
        z_true=blind.z,
        z_predicted=median,
        z_low=np.asarray(rows["z_q16"], dtype=float),
        z_high=np.asarray(rows["z_q84"], dtype=float),
        caption=caption,
    )
    draw_pit(directory / "pit.png", pit=pit(weights, means, sigmas, blind.z), caption=caption)
    mean_crps = float(crps(weights, means, sigmas, blind.z).mean())
    return {"crps": mean_crps, **baselines(known, blind), **point_measures(median, blind.z)}


def _verifies(manifest: Path, job: str) -> bool:
    """Run ``inzitu verify`` as the operator would."""
    arguments = [sys.executable, "-m", "inzitu.cli", "verify", job, "--manifest", str(manifest)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        ERR.print(done.stdout + done.stderr)
    return done.returncode == 0


def _say(report: dict[str, Any], page: Path) -> None:
    """Print the report's numbers, and every check that fails."""
    OUT.print(
        f"blind CRPS {report['crps']:.4f} (neighbours {report['crps_neighbours']:.4f}, climatology "
        f"{report['crps_climatology']:.4f}), nmad {report['nmad']:.4f}, bias {report['bias']:+.4f}, outliers "
        f"{100 * report['outliers_015']:.1f} %\n{report['bytes_read'] / 1e6:.1f} MB read, "
        f"{report['bytes_sent'] / 1e6:.2f} MB sent, {report['seconds']:.0f} s, {report['peak_rss_gb']:.2f} GB"
    )
    for name, holds in report["checks"].items():
        if not holds:
            ERR.print(f"FAILS {name}", style="red")
    OUT.print(f"{sum(report['checks'].values())} of {len(report['checks'])} checks hold; report: {page}")


def _leave_up(running: RunningService, report: dict[str, Any]) -> None:
    OUT.print(f"The service is at {running.url}; the table is {report['table']}. Ctrl-C ends it.")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        OUT.print("ended")
