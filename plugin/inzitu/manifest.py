"""The manifest: what a deployment offers and allows, read from one YAML file, checked and frozen.

Relative paths are taken from the folder that holds the manifest. A survey is a HiPS folder or an http(s) base.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inzitu.errors import ManifestFault

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

type Location = str
"""A path or an http(s) URL, absolute once the manifest is loaded."""


class Section(BaseModel):
    """A part of the manifest: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SurveyEntry(Section):
    """One band of the archive's images."""

    band: str = Field(description="Name of the band, as users write it: u, g, r, W1.")
    hips: Location = Field(
        "", description="Folder or http(s) base of the HiPS that holds the band's FITS tiles; or else `id`."
    )
    id: str = Field("", description="Identifier of the survey at the MOCServer, which tells address and coverage.")
    moc: Location = Field("", description="MOC file of the band's coverage; empty: what the HiPS says.")
    unit: str = Field("nanomaggy", description="Unit of a pixel's value.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.hips) == bool(self.id):
            raise ValueError("name either the hips, by its folder or address, or the id of the survey")
        return self


class CatalogueEntry(Section):
    """The archive's catalogue: what a user's positions are matched with."""

    path: Location = Field("", description="Parquet file or folder, CSV, FITS or VOTable; or else `tap` and `table`.")
    tap: str = Field("", description="Base URL of the TAP service that holds the catalogue.")
    table: str = Field("", description="Name of the catalogue's table there.")
    id: str = Field("objID", description="Column with the source's identifier.")
    ra: str = Field("ra", description="Column with the right ascension, ICRS [deg].")
    dec: str = Field("dec", description="Column with the declination, ICRS [deg].")
    magnitudes: tuple[str, ...] = Field((), description="Columns with magnitudes, carried along with each match.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.path) == bool(self.tap) or bool(self.tap) != bool(self.table):
            raise ValueError("name either the path of the catalogue, or the tap service and the table that hold it")
        return self


class ArchiveSection(Section):
    """What the host holds."""

    surveys: tuple[SurveyEntry, ...] = Field(min_length=1, description="The bands, in the order that networks see.")
    catalogue: CatalogueEntry
    mocserver: str = Field("", description="URL of another MOCServer than that of CDS, for surveys named by `id`.")

    @model_validator(mode="after")
    def _distinct_bands(self) -> Self:
        bands = [survey.band for survey in self.surveys]
        if twice := {band for band in bands if bands.count(band) > 1}:
            raise ValueError(f"bands named twice: {', '.join(sorted(twice))}; each survey needs a band of its own")
        return self

    @property
    def bands(self) -> tuple[str, ...]:
        """The names of the bands, in order."""
        return tuple(survey.band for survey in self.surveys)


class SdssSource(Section):
    """The spectra of SDSS, by SkyServer's SQL, or by CasJobs where credentials are named."""

    kind: Literal["sdss"] = Field("sdss", description="`sdss`: the SQL of SkyServer or CasJobs.")
    release: int = Field(17, ge=8, description="Data release that is asked.")
    server: str = Field("", description="Base URL of another SkyServer than that of SDSS.")
    casjobs_user: str = Field("", description="Environment variable with the user of CasJobs; empty: SkyServer only.")
    casjobs_password: str = Field("", description="Environment variable with the password of CasJobs.")
    casjobs_login: str = Field(
        "https://apps.sciserver.org/login-portal/keystone/v3/tokens", description="Where CasJobs' tokens are had."
    )

    @model_validator(mode="after")
    def _both_credentials(self) -> Self:
        if bool(self.casjobs_user) != bool(self.casjobs_password):
            raise ValueError("CasJobs takes a user and a password: name both environment variables, or none")
        return self


class TapSource(Section):
    """A table with redshifts behind a TAP service."""

    kind: Literal["tap"] = Field(description="`tap`: a table behind a TAP service.")
    url: str = Field(description="Base URL of the TAP service.")
    table: str = Field(description="Name of its table with redshifts.")
    id: str = Field(description="Column with the identifier, by which the rows are asked for in order.")
    ra: str = Field("ra", description="Column with the right ascension, ICRS [deg].")
    dec: str = Field("dec", description="Column with the declination, ICRS [deg].")
    z: str = Field("z", description="Column with the redshift.")
    columns: tuple[str, ...] = Field((), description="Further columns to carry along: quality, survey.")
    magnitudes: dict[str, str] = Field({}, description="Columns of magnitudes, by band.")
    spectral_class: str = Field("", description="Column with the class GALAXY, QSO or STAR.")
    warning: str = Field("", description="Column that is 0 where the redshift is sound.")


type Source = Annotated[SdssSource | TapSource, Field(discriminator="kind")]


class Limits(Section):
    """What one user may ask for; the same numbers stand in the capabilities and in the errors."""

    upload_bytes: int = Field(256 << 20, gt=0, description="Largest uploaded table [byte].")
    rows: int = Field(1_000_000, gt=0, description="Most rows in the lists of one job.")
    parameters: int = Field(60_000_000, gt=0, description="Most parameters of a network.")
    training_memory_mb: int = Field(16_384, gt=0, description="Most memory of a training step [MB].")
    examination_seconds: float = Field(60.0, gt=0, description="Longest examination of a job before it runs [s].")
    execution_seconds: int = Field(6 * 3600, gt=0, description="Longest run of a job [s].")
    destruction_days: int = Field(30, gt=0, description="A job's results are kept this long [d].")
    wait_seconds: int = Field(60, gt=0, description="Longest WAIT of a poll [s].")
    query_seconds: float = Field(60.0, gt=0, description="Longest synchronous query [s].")
    query_memory_mb: int = Field(2048, gt=0, description="Memory of the query engine [MB].")
    maxrec: int = Field(100_000, gt=0, description="Rows a query returns unless MAXREC says otherwise.")
    maxrec_hard: int = Field(10_000_000, gt=0, description="Most rows a query may return.")


class Engine(Section):
    """Where the parallel parts run."""

    scheduler: str | None = Field(None, description="Address of a Dask scheduler; null for a LocalCluster.")
    workers: int = Field(2, gt=0, description="Threads of the LocalCluster.")
    without_workers_seconds: float = Field(
        600.0, gt=0, description="How long a job waits for a cluster none of whose workers takes work [s]."
    )
    memory_mb: int = Field(1024, ge=64, description="Memory for searching the catalogue, all threads together [MB].")
    stamps_mb: int = Field(8192, ge=1, description="Stamps on the device in a training; more are streamed [MB].")
    checkpoint_seconds: float = Field(20.0, ge=0, description="Time between the checkpoints of a training [s].")


class Manifest(Section):
    """What a deployment offers and allows."""

    name: str = Field("inzitu", pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", description="Short name of the deployment.")
    title: str = Field("inzitu", description="What the pages call it.")
    publisher: str = Field("inzitu", description="Who runs it: the agent in every provenance record.")
    state: Path = Field(Path("state"), description="Folder of the job store and of the artefacts.")
    database: str | None = Field(None, description="SQLAlchemy URL of the job store; null for SQLite in `state`.")
    archive: ArchiveSection
    sources: dict[str, Source] = Field({}, description="Where lists of redshifts may be downloaded from, by name.")
    pipelines: dict[str, tuple[str, ...]] = Field({}, description="Further pipelines: a name and its chain of steps.")
    limits: Limits = Limits()
    engine: Engine = Engine()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check a manifest.

        Raises
        ------
        ManifestFault
            The file cannot be read or is not a valid manifest; the message names each key at fault.
        """
        path = Path(path).resolve()
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ManifestFault(f"The manifest {path} has no keys; it needs archive at least.")
            return cls.model_validate(content)._anchored(path.parent)
        except OSError as error:
            raise ManifestFault(f"Cannot read the manifest {path}: {error.strerror}.") from error
        except yaml.YAMLError as error:
            raise ManifestFault(f"The manifest {path} is no valid YAML: {error}") from error
        except ValidationError as error:
            lines = "; ".join(map(_complaint, error.errors()))
            raise ManifestFault(f"The manifest {path} is wrong: {lines}.") from error

    def _anchored(self, base: Path) -> Self:
        """Return the manifest with its relative paths made absolute."""

        def anchored(location: Location) -> Location:
            return location if "://" in location or not location else str((base / location).resolve())

        archive = self.archive
        surveys = tuple(
            s.model_copy(update={"hips": anchored(s.hips), "moc": anchored(s.moc)}) for s in archive.surveys
        )
        catalogue = archive.catalogue.model_copy(update={"path": anchored(archive.catalogue.path)})
        return self.model_copy(
            update={
                "state": (base / self.state).resolve(),
                "archive": archive.model_copy(update={"surveys": surveys, "catalogue": catalogue}),
            }
        )

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the job store and of the record."""
        return self.database or f"sqlite:///{self.state / 'inzitu.db'}"

    @property
    def scratch(self) -> Path:
        """Folder in which each job has a folder of its own while it runs."""
        return self.state / "scratch"

    @property
    def artefacts(self) -> Path:
        """Folder of the artefact store."""
        return self.state / "artefacts"


def _complaint(error: ErrorDetails) -> str:
    """Return what is wrong with one key, in the words of the check, with its value if it has a plain one."""
    key = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "value_error":
            return f"{key}: {error['ctx']['error']}"
        case "extra_forbidden":
            return f"{key}: there is no such key; docs/reference/manifest.md lists those there are"
        case "missing":
            return f"{key}: this key is needed"
        case _:
            value = error["input"]
            return f"{key}{'' if isinstance(value, dict | list) else f'={value}'}: {error['msg']}"
