"""What a downloaded list is to hold."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from inzitu.pipelines.declaration import Parameters

_FILTERS = ("z_min", "z_max", "spectral_class", "clean", "band", "mag_min", "mag_max", "circle")


class DownloadParameters(Parameters):
    """Which sources with redshift to fetch, and where from: by filters, or by a query of one's own."""

    source: str = Field("sdss", description="Where the list comes from: a name under `sources` in the manifest.")
    top: int = Field(1000, ge=1, description="Most rows to fetch.")
    query: str | None = Field(
        None, max_length=10_000, description="A SELECT in the source's language with ra, dec, z, in place of filters."
    )
    z_min: float = Field(0.0, ge=0, le=20, description="Least redshift.")
    z_max: float | None = Field(None, ge=0, le=20, description="Greatest redshift; empty: any.")
    spectral_class: Literal["galaxy", "qso", "star"] | None = Field(
        None, description="Class of the spectrum: galaxy, qso or star; empty: any."
    )
    clean: bool = Field(True, description="Only redshifts without a warning.")
    band: str = Field("r", description="Band of MAG_MIN and MAG_MAX.")
    mag_min: float | None = Field(None, ge=-5, le=40, description="Brightest magnitude; empty: any.")
    mag_max: float | None = Field(None, ge=-5, le=40, description="Faintest magnitude; empty: any.")
    circle: str | None = Field(None, description="Area, as ra dec radius [deg]; empty: the whole sky.")

    @field_validator("circle")
    @classmethod
    def _circle_is_one(cls, circle: str | None) -> str | None:
        if circle is None:
            return None
        try:
            ra, dec, radius = (float(word) for word in circle.replace(",", " ").split())
        except ValueError as error:
            raise ValueError("a circle is three numbers: ra dec radius, in degrees") from error
        if not (0 <= ra < 360 and -90 <= dec <= 90 and 0 < radius <= 180):
            raise ValueError("ra must be from 0 to 360, dec from -90 to 90, the radius above 0 [deg]")
        return f"{ra!r} {dec!r} {radius!r}"

    @model_validator(mode="after")
    def _a_query_or_filters(self) -> Self:
        given = [name for name in _FILTERS if name in self.model_fields_set]
        if self.query is not None and given:
            raise ValueError(f"QUERY says it all: leave out {', '.join(name.upper() for name in given)}, or QUERY")
        for low, high in ((self.z_min, self.z_max), (self.mag_min, self.mag_max)):
            if low is not None and high is not None and high < low:
                raise ValueError(f"nothing lies between {low:g} and {high:g}")
        return self

    @property
    def area(self) -> tuple[float, float, float] | None:
        """Centre and radius of the circle [deg]."""
        if self.circle is None:
            return None
        ra, dec, radius = (float(word) for word in self.circle.split())
        return ra, dec, radius
