"""What the demo's user asks and fetches, with pyvo and plain HTTP, and what must hold of the answers."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyvo
import requests
from astropy.table import Table
from prov.model import ProvDocument
from scipy.special import ndtr

from inzitu.hips import Survey, cutouts

if TYPE_CHECKING:
    from pathlib import Path

    from inzitu.client import JobState, Service
    from inzitu.demo.quasars import Quasars

COLUMNS = "source_id, ra, dec, status, z_mean, z_median, z_q16, z_q84, weights, means, sigmas, ood, model_id"


class CountingSession(requests.Session):
    """A session for pyvo that knows how many bytes came over the wire."""

    def __init__(self) -> None:
        super().__init__()
        self._raw: list[Any] = []

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request and remember its stream."""
        response = super().send(request, **options)
        self._raw.append(response.raw)
        return response

    @property
    def bytes_received(self) -> int:
        """Bytes of all answers that have been read [byte]."""
        return sum(raw.tell() for raw in self._raw)


def ask_for_all(tap: pyvo.dal.TAPService, table: str, blind: Quasars) -> tuple[Table, dict[str, bool]]:
    """Return the served rows in the order of the blind quasars, and what holds of them."""
    rows = tap.run_sync(f"SELECT {COLUMNS} FROM {table}").to_table()
    same = tap.run_async(f"SELECT {COLUMNS} FROM {table}").to_table()
    by_name = {str(name): i for i, name in enumerate(rows["source_id"])}
    whole = len(rows) == len(blind) and all(name in by_name for name in blind.name)
    equal = sorted(map(str, same["source_id"])) == sorted(by_name)
    checks = {"every blind quasar has its row": whole, "async gives the rows that sync gives": equal}
    if whole:
        rows = rows[[by_name[name] for name in blind.name]]
    checks["every row is predicted, with the model's id"] = bool(
        all(rows["status"] == "ok") and len(set(rows["model_id"])) == 1 and len(str(rows["model_id"][0])) == 64
    )
    return rows, checks


def ask_functions(tap: pyvo.dal.TAPService, table: str, rows: Table, blind: Quasars) -> tuple[float, dict[str, bool]]:
    """Ask for probabilities and quantiles in ADQL and compare with the same made here; return the CRPS by ADQL too."""
    answer = tap.run_sync(
        "SELECT source_id, pz_cdf(weights, means, sigmas, 3.2) AS below, "
        "pz_prob(weights, means, sigmas, 3.0, 3.5) AS within, "
        f"pz_cdf(weights, means, sigmas, pz_quantile(weights, means, sigmas, 0.84)) AS back FROM {table}"
    ).to_table()
    place = {str(name): i for i, name in enumerate(answer["source_id"])}
    answer = answer[[place[str(name)] for name in rows["source_id"]]]
    weights, means, sigmas = (np.stack(rows[name]).astype(float) for name in ("weights", "means", "sigmas"))

    def below(z: float) -> np.ndarray:
        return np.asarray((weights * ndtr((z - means) / sigmas)).sum(axis=1))

    likely = tap.run_sync(
        f"SELECT TOP 5 source_id FROM {table} WHERE pz_prob(weights, means, sigmas, 3.0, 3.5) > 0.5 ORDER BY z_median"
    ).to_table()
    truth = Table({"source_id": blind.name, "z": blind.z})
    scored = tap.run_sync(
        f"SELECT AVG(pz_crps(p.weights, p.means, p.sigmas, t.z)) AS crps FROM {table} AS p "
        "JOIN TAP_UPLOAD.truth AS t ON p.source_id = t.source_id",
        uploads={"truth": truth},
    ).to_table()
    checks = {
        "pz_cdf agrees with the columns": bool(np.allclose(answer["below"], below(3.2), atol=1e-5)),
        "pz_prob agrees with the columns": bool(np.allclose(answer["within"], below(3.5) - below(3.0), atol=1e-5)),
        "pz_quantile inverts pz_cdf": bool(np.allclose(answer["back"], 0.84, atol=1e-4)),
        "a question about probabilities has an answer": len(likely) > 0,
    }
    return float(scored["crps"][0]), checks


def fetch_bundle(service: Service, model: str, folder: Path) -> dict[str, bool]:
    """Fetch a model's bundle and its provenance into a folder."""
    archive = zipfile.ZipFile(io.BytesIO(service.request("GET", f"/models/{model}").content))
    archive.extractall(folder)
    wanted = {"model.safetensors", "model.json", "predictor.stablehlo", "card.md", "provenance.json"}
    names = {name.rpartition("/")[2] for name in archive.namelist()}
    return {"the bundle is whole": wanted <= names}


def reproduce(folder: Path, surveys: list[str], rows: Table) -> dict[str, bool]:
    """Load the fetched bundle, cut the stamps anew, and compare its predictions with the served rows."""
    from inzitu.learn import bundles  # JAX is loaded only now that the service is done

    bundle = bundles.load(folder)
    ra, dec = (np.asarray(rows[name], dtype=float) for name in ("ra", "dec"))
    geometry = {"size": bundle.json["input_shape"][0], "scale": bundle.json["scale"]}
    stamps = cutouts([Survey.open(survey) for survey in surveys], ra, dec, **geometry)
    mixture = bundle.predict(stamps.pixels)
    close = all(
        np.allclose(np.asarray(getattr(mixture, name)), np.stack(rows[name]), atol=1e-5)
        for name in ("weights", "means", "sigmas")
    )
    return {"the bundle gives the served predictions to 1e-5": close}


def fetch_provenance(service: Service, job: str, folder: Path) -> dict[str, bool]:
    """Fetch the provenance of all that the job made as PROV-JSON and PROV-N; the prov library must read both as one."""
    texts, documents = {}, {}
    for name, ending in (("json", "json"), ("provn", "provn")):
        asked = {"ID": job, "DEPTH": "ALL", "RESPONSEFORMAT": {"json": "PROV-JSON", "provn": "PROV-N"}[name]}
        texts[name] = service.request("GET", "/provenance", params=asked).text
        (folder / f"provenance.{ending}").write_text(texts[name], encoding="utf-8")
        documents[name] = ProvDocument.deserialize(content=texts[name], format=name)
    again = ProvDocument.deserialize(content=documents["json"].serialize(format="json"), format="json")
    activities = {"select", "cut", "train", "predict"}
    return {
        "PROV-JSON and PROV-N say the same": documents["json"] == documents["provn"],
        "PROV-JSON comes back equal": documents["json"] == again,
        "the record reaches from predictions to selection": all(step in texts["json"] for step in activities),
    }


def never_loads_jax(port: int) -> bool:
    """Whether the process that listens on a port has no library of JAX in its memory."""
    for process in psutil.process_iter():
        try:
            listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            if any(c.laddr.port == port for c in listening):
                return not any("jaxlib" in region.path for region in process.memory_maps())
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return False


def pictures(service: Service, job: JobState, folder: Path) -> dict[str, bool]:
    """Fetch the pictures that the job drew."""
    fetched = []
    for name in ("pdfs", "redshifts", "pit"):
        if name in job.results:
            content = service.request("GET", job.results[name]).content
            (folder / f"job-{name}.png").write_bytes(content)
            fetched.append(content.startswith(b"\x89PNG"))
    return {"the job's pictures are there": len(fetched) == 3 and all(fetched)}
