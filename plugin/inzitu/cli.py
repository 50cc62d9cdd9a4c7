"""The command line, ``inzitu``: for who runs an archive, and for who asks it.

Commands only read their options and print; what they do is in the parts. A part is imported by the command that needs
it, so that ``inzitu serve`` never loads JAX and ``inzitu --help`` answers at once.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from inzitu.errors import Fault, ParameterFault, UserFault, as_fault
from inzitu.terminal import ERR, OUT, progress_bar

# Units stand in brackets, which rich would take for markup and swallow.
app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)
archive = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Build what a deployment serves.")
app.add_typer(archive, name="archive")

Server = Annotated[
    str, typer.Option(envvar="INZITU_SERVER", metavar="URL", help="Base URL of the service that is asked.")
]
ManifestFile = Annotated[Path, typer.Option("--manifest", envvar="INZITU_MANIFEST", help="The deployment's manifest.")]
_HERE = "http://127.0.0.1:8000"
_MANIFEST = Path("manifest.yaml")


def main() -> None:
    """Run the command line; a fault is one line on stderr and exit status 1."""
    try:
        app()
    except (Fault, ValueError, OSError, MemoryError) as error:
        fault = as_fault(error)
        ERR.print(f"inzitu: {fault}", style="red")
        sys.exit(1)


# The operator


@app.command()
def demo(
    directory: Annotated[Path, typer.Option("--dir", help="Where the archive, the state and the report go.")] = Path(
        "demo"
    ),
    serve: Annotated[bool, typer.Option("--serve", help="Leave the service up when the demo is over.")] = False,
) -> None:
    """Play the main job on real pixels, start to end, as a remote user; leaves report.json and report.html."""
    from inzitu.demo.road import play

    # As Ctrl-C does, so that the service does not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if not play(directory, serve=serve):
        sys.exit(1)


@archive.command()
def stamps(
    file: Annotated[Path, typer.Argument(help="NPZ with images [n,band,y,x], bands, ra, dec, z, objID.")],
    out: Annotated[Path, typer.Option(help="Folder for hips/, catalogue.parquet and manifest.yaml.")],
) -> None:
    """Build an archive, a HiPS a band and a catalogue, from stamps of known position."""
    from inzitu.archive.stamps import build

    with progress_bar() as bar:
        task = bar.add_task("building the archive", total=None)
        build(file, out, progress=lambda done, total: bar.update(task, completed=done, total=total))
    OUT.print(f"{out / 'manifest.yaml'}: serve it with: inzitu serve --manifest {out / 'manifest.yaml'}")


@app.command()
def check(manifest: Annotated[Path, typer.Argument(help="The manifest to check.")]) -> None:
    """Check a manifest: its keys, and that every survey and the catalogue can be read."""
    from inzitu.archive.inspection import inspect
    from inzitu.manifest import Manifest

    loaded = Manifest.load(manifest)
    for line in inspect(loaded):
        OUT.print(line)
    OUT.print(f"{manifest}: right")


@app.command()
def serve(
    manifest: ManifestFile = _MANIFEST,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
) -> None:
    """Serve a deployment over HTTP; `inzitu work` beside it does the jobs."""
    import uvicorn

    from inzitu.manifest import Manifest
    from inzitu.web.app import create_app

    uvicorn.run(
        create_app(Manifest.load(manifest)), host=host, port=port, log_level="info", timeout_graceful_shutdown=5
    )


@app.command()
def work(manifest: ManifestFile = _MANIFEST) -> None:
    """Do the jobs of a deployment, one at a time, until stopped."""
    from inzitu.run.worker import run

    run(manifest, say=lambda line: ERR.print(line))


# Tools that need no service

Columns = Annotated[
    str | None, typer.Option(metavar="RA,DEC", help="The list's columns with the positions, if they are not guessed.")
]
Unit = Annotated[
    str | None,
    typer.Option(help="Unit of its positions, in place of what it says: deg, rad, or hour of right ascensions."),
]
Frame = Annotated[str | None, typer.Option(help="icrs, galactic or fk4 (B1950), in place of what it says.")]


def _pair(columns: str | None) -> tuple[str, str] | None:
    """Return the two names of an option."""
    if columns is None:
        return None
    ra, _, dec = (part.strip() for part in columns.partition(","))
    if not ra or not dec or "," in dec:
        raise ParameterFault(f"{columns!r} does not name two columns; write for example RA_FIT,DEC_FIT.")
    return ra, dec


@app.command()
def crossmatch(
    a: Annotated[Path, typer.Argument(help="Parquet, VOTable, FITS or CSV with ra, dec.")],
    b: Annotated[Path, typer.Argument(help="Likewise; may be larger than memory.")],
    radius: Annotated[float, typer.Option(help="Matching radius [arcsec].")],
    out: Annotated[Path, typer.Option(help="Parquet file of pairs: row_a, row_b (from 0), separation [arcsec].")],
    moc: Annotated[str | None, typer.Option(help="Match only inside this MOC: a file, or CDS/P/SDSS9/r.")] = None,
    every: Annotated[bool, typer.Option("--every", help="All pairs, not only the nearest of each row of A.")] = False,
    columns_a: Columns = None,
    columns_b: Columns = None,
    unit_a: Unit = None,
    unit_b: Unit = None,
    frame_a: Frame = None,
    frame_b: Frame = None,
    memory: Annotated[int, typer.Option(min=16, help="What may be used beside the libraries [MB].")] = 1024,
) -> None:
    """Find for each row of A its nearest in B."""
    from inzitu.archive.matching import crossmatch_files
    from inzitu.archive.surveys import moc_of

    with progress_bar() as bar, TemporaryDirectory() as folder:
        task = bar.add_task("crossmatching")
        counts = crossmatch_files(
            a,
            b,
            radius,
            out,
            moc=None if moc is None else moc_of(moc, Path(folder)),
            every=every,
            columns_a=_pair(columns_a),
            columns_b=_pair(columns_b),
            unit_a=unit_a,
            unit_b=unit_b,
            frame_a=frame_a,
            frame_b=frame_b,
            memory=memory << 20,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    OUT.print(f"{out}: {counts.pairs:,} pairs of {counts.rows_a:,} and {counts.rows_b:,} rows")
    for name, unusable, hours in (
        ("A", counts.unusable_a, counts.hours_a),
        ("B", counts.unusable_b, counts.hours_b),
    ):
        if unusable:
            OUT.print(f"{unusable:,} rows of {name} have no usable position")
        if hours:
            OUT.print(f"the right ascensions of {name} look like hours; if they are, add --unit-{name.lower()} hour")
    if counts.outside:
        OUT.print(f"{counts.outside:,} rows of A lie outside the coverage")


@app.command()
def cutouts(
    hips: Annotated[list[str], typer.Option(help="Folder or http(s) base of a HiPS; repeat for each band.")],
    positions: Annotated[Path, typer.Option(help="Parquet, VOTable, FITS or CSV with ra, dec.")],
    size: Annotated[int, typer.Option(help="Width and height of a stamp [pixel].")],
    scale: Annotated[float, typer.Option(help="Size of a stamp's pixel [arcsec].")],
    out: Annotated[Path, typer.Option(help="FILE.npz, .npy or .zarr: pixels [n,y,x,band], status [n].")],
    resampling: Annotated[str, typer.Option(help="nearest, bilinear or area.")] = "bilinear",
    angle: Annotated[float, typer.Option(help="Position angle of the stamps' y axis, north through east [deg].")] = 0.0,
    columns: Columns = None,
    unit: Unit = None,
    frame: Frame = None,
) -> None:
    """Cut stamps around positions; an interrupted run goes on where it stopped."""
    from inzitu.archive.catalogues import look_like_hours
    from inzitu.archive.cutting import cut_to_file
    from inzitu.archive.streams import read_positions
    from inzitu.hips import Survey

    ra, dec = read_positions(positions, columns=_pair(columns), unit=unit, frame=frame)
    if unit is None and look_like_hours(ra, dec):
        ERR.print("the right ascensions look like hours; if they are, add --unit hour")
    with progress_bar() as bar:
        task = bar.add_task("cutting")
        summary = cut_to_file(
            [Survey.open(location) for location in hips],
            ra,
            dec,
            out,
            size=size,
            scale=scale,
            resampling=resampling,
            angle=angle,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    tally = ", ".join(f"{count:,} {status}" for status, count in summary.statuses.items() if count)
    read = f"{summary.tiles:,} tiles, {summary.bytes_read / 1e6:.1f} MB read"
    if summary.resumed:
        read = f"of which {summary.resumed:,} were cut before; {read} in this run"
    OUT.print(f"{out}: {summary.rows:,} rows: {tally}; {read}")
    for message in summary.errors:
        ERR.print(message)


@app.command()
def coverage(
    hips: Annotated[str, typer.Argument(metavar="HIPS_DIR", help="Folder or http(s) base of a HiPS.")],
    out: Annotated[Path, typer.Option(help="File of the MOC: FITS, or .json, or .txt.")],
    pixels: Annotated[
        bool, typer.Option("--pixels", help="From the pixels that have a value: reads every tile.")
    ] = False,
    order: Annotated[
        int | None, typer.Option(help="With --pixels, HEALPix order of the cells; that of the pixels.")
    ] = None,
) -> None:
    """Write the coverage map of a HiPS, from its tiles where it has none."""
    from inzitu.hips import Survey
    from inzitu.hips.footprint import coverage_from_pixels

    if order is not None and not pixels:
        raise ParameterFault("--order goes with --pixels: a coverage that is stated, or made of tiles, has its own.")
    survey = Survey.open(hips)
    found = coverage_from_pixels(survey, order=order) if pixels else survey.coverage()
    found.write(out)
    OUT.print(f"{out}: {found.area:.4g} deg2 to order {found.order}")


# The user


@app.command()
def submit(
    pipeline: Annotated[str, typer.Argument(help="A pipeline of the service; `inzitu pipelines` lists them.")],
    parameters: Annotated[list[str] | None, typer.Argument(metavar="[key=value]...")] = None,
    server: Server = _HERE,
    wait: Annotated[bool, typer.Option(help="Follow the job to its end.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask what the job will find and take; run nothing.")
    ] = False,
) -> None:
    """Send a job: key=FILE uploads a file that the pipeline takes, any other key=value is a parameter.

    `inzitu pipelines PIPELINE` shows which those are. The job's address is printed first, then its page's.
    """
    from inzitu.asking import estimate_table, sorted_out
    from inzitu.client import Service

    service = Service(server)
    uploads, given = sorted_out(parameters or [], service.pipelines().get(pipeline, {}))
    job = service.submit(pipeline, uploads, given, run=not dry_run)
    OUT.print(job.url)
    OUT.print(f"In a browser: {job.page}")
    if dry_run:
        told = service.estimate(job.url)
        for table in estimate_table(told):
            OUT.print(table)
        if told["estimated"]["refused"]:
            raise UserFault(f"It cannot run: {told['estimated']['refused']}")
        OUT.print(f"It waits; have it run with: inzitu run {job.url}")
    elif wait:
        _follow(service, job.url)


@app.command()
def run(
    job: Annotated[str, typer.Argument(help="Id of a job that waits, or its address, as --dry-run printed it.")],
    server: Server = _HERE,
    wait: Annotated[bool, typer.Option(help="Follow the job to its end.")] = True,
) -> None:
    """Have a job run that was asked first."""
    from inzitu.client import Service

    url = job if "://" in job else f"{server.rstrip('/')}/jobs/{job}"
    service = Service(url.rpartition("/jobs/")[0])
    service.request("POST", f"{url}/phase", data={"PHASE": "RUN"})
    if wait:
        _follow(service, url)


@app.command()
def pipelines(
    name: Annotated[str | None, typer.Argument(help="Show this one's files and parameters.")] = None,
    server: Server = _HERE,
) -> None:
    """List the pipelines of the service, or show what one of them takes."""
    from inzitu.asking import pipeline_tables
    from inzitu.client import Service

    for table in pipeline_tables(Service(server).pipelines(), name):
        OUT.print(table)


def _follow(service: Any, url: str) -> None:
    """Show a job's progress until it ends; fail if the job does."""
    with progress_bar() as bar:
        task = bar.add_task("queued", total=1.0)
        for state in service.follow(url):
            bar.update(task, description=state.summary, completed=state.fraction)
    if state.phase != "COMPLETED":
        ERR.print(f"{state.phase} {state.message}", style="red")
        sys.exit(1)
    for name, href in state.results.items():
        OUT.print(f"{name:14} {href}")


@app.command()
def jobs(
    server: Server = _HERE,
    last: Annotated[int, typer.Option(min=1, help="At most so many, the latest.")] = 20,
) -> None:
    """List the jobs of the service: what each is, how it stands, and why it failed if it did."""
    from inzitu.asking import job_table
    from inzitu.client import Service

    OUT.print(job_table(Service(server).jobs(last=last)))


@app.command()
def query(
    adql: Annotated[str, typer.Argument(help="An ADQL query.")],
    server: Server = _HERE,
    output: Annotated[str, typer.Option("--format", help="csv, tsv, votable, json...")] = "csv",
) -> None:
    """Ask the published tables a question in ADQL."""
    from inzitu.client import Service

    sys.stdout.buffer.write(Service(server).query(adql, output))


@app.command()
def models(server: Server = _HERE) -> None:
    """List the models of the service."""
    from inzitu.client import Service

    OUT.print_json(json.dumps(Service(server).json("/models")))


# The record


@app.command()
def prov(
    id: Annotated[str, typer.Argument(help="Identifier of an artefact.")],
    manifest: ManifestFile = _MANIFEST,
    output: Annotated[str, typer.Option("--format", help="PROV-N, PROV-JSON, PROV-XML or turtle.")] = "PROV-N",
) -> None:
    """Print the provenance of an artefact, back to the pixels and the lists it came from."""
    from inzitu.record import provenance

    sys.stdout.buffer.write(provenance(manifest, id, output))


@app.command()
def verify(
    id: Annotated[str, typer.Argument(help="Identifier of an artefact.")], manifest: ManifestFile = _MANIFEST
) -> None:
    """Hash an artefact, and all that it was made from, again; name the first link that fails."""
    from inzitu.record import verification

    with progress_bar() as bar:
        task = bar.add_task("hashing", total=None)
        verdict = verification(manifest, id, lambda done: bar.update(task, description=f"hashed {done:,}"))
    for state, count in Counter(link.state for link in verdict.links).items():
        OUT.print(f"{count:,} {state}")
    if verdict.failure is not None:
        ERR.print(f"{verdict.failure.state}: {verdict.failure.message}", style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
