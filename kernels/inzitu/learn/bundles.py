"""Model bundles: a folder that predicts without the code that trained it.

    model.safetensors      the parameters, members stacked
    model.json             what the model is and was made from, and the digests of the other two
    predictor.stablehlo    parameters and raw images to the arrays of the PDFs, for CPU and CUDA, any number of images
    card.md                the same for people

Loading needs no network: the program holds normalisation, networks, the average over the symmetries
and the pooling. Nothing in a bundle is executable Python.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Float
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from inzitu.learn import heads
from inzitu.learn.bins import Histogram
from inzitu.learn.calibration import Calibration
from inzitu.learn.card import card
from inzitu.learn.mixture import Mixture
from inzitu.learn.predict import check_shape, in_blocks, predictor
from inzitu.learn.scalars import stacked
from inzitu.learn.trained import Trained

FORMAT = 1
PLATFORMS = ("cpu", "cuda")


class BundleError(ValueError):
    """A folder that is no whole model bundle, or one for other images."""


def save(
    trained: Trained,
    folder: Path,
    *,
    bands: Sequence[str],
    scale: float,
    units: str,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a bundle.

    Parameters
    ----------
    trained
        What was trained.
    folder
        Where to; made if it is not there.
    bands
        Names of the images' bands, in order.
    scale
        Size of a pixel [arcsec].
    units
        Unit of the pixels.
    extra
        What else to keep in ``model.json``.
    """
    if len(bands) != trained.input_shape[2]:
        raise BundleError(f"{len(bands)} band names for images of {trained.input_shape[2]} bands")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _named(trained.parameters)
    files = {
        "model.safetensors": save_tensors(tensors),
        "predictor.stablehlo": _program(trained, tensors),
    }
    about = dict(extra or {}) | _about(trained) | {"bands": list(bands), "scale": scale, "units": units}
    about |= {"digests": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}
    files["model.json"] = _described(about)
    files["card.md"] = card(about).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A model that was loaded.

    Attributes
    ----------
    json
        What ``model.json`` holds.
    tensors
        The parameters by name, members stacked.
    """

    json: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]
    _call: Any

    @property
    def components(self) -> int:
        """Number of components of a predicted mixture, all members together; of bins, their number."""
        head = self.json["head"]
        return int(head["k"]) * int(self.json["members"]) if head["head"] == "mixture" else int(head["num_bins"])

    @property
    def head(self) -> str:
        """The head, as users write it."""
        return str(self.json["recipe"]["head"])

    @property
    def masked(self) -> bool:
        """Whether it is told which bands an image lacks."""
        return bool(self.json["recipe"]["masked"])

    @property
    def calibration(self) -> Calibration | None:
        """What was learned on held-out rows, if the model was calibrated."""
        stored = self.json.get("calibration")
        return None if stored is None else Calibration.from_json(stored)

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the numbers that come with each image."""
        return tuple(self.json["recipe"]["scalars"])

    def check(self, *, bands: Sequence[str], scale: float, size: int) -> None:
        """Refuse images that the model was not made for.

        Raises
        ------
        BundleError
            Other bands, another size or another scale.
        """
        rows, columns, _ = self.json["input_shape"]
        if list(bands) != self.json["bands"]:
            raise BundleError(
                f"the images have the bands {', '.join(bands)}, the model {', '.join(self.json['bands'])}"
            )
        if (size, size) != (rows, columns):
            raise BundleError(f"the images are {size} x {size} pixels, the model takes {rows} x {columns}")
        if abs(scale / self.json["scale"] - 1) > 1e-3:
            raise BundleError(f"the images have {scale} arcsec a pixel, the model was trained on {self.json['scale']}")

    def arrays(
        self, images: Float[np.ndarray, "n y x band"], scalars: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Give all that the program gives: the arrays of the PDFs, and the out-of-domain score."""
        check_shape(images, tuple(self.json["input_shape"]))
        columns = stacked(self.scalars, scalars or {}, len(images))
        return in_blocks(lambda block, own: self._call(dict(self.tensors), block, own), images, columns)

    def predict(
        self, images: Float[np.ndarray, "n y x band"], scalars: Mapping[str, np.ndarray] | None = None
    ) -> Mixture | Histogram:
        """Predict the PDF of each image, averaged over the 8 symmetries, at the temperature of the calibration."""
        return self.distribution(self.arrays(images, scalars))

    def distribution(self, found: Mapping[str, np.ndarray]) -> Mixture | Histogram:
        """Give the PDFs of what `arrays` gave."""
        predicted = self._uncalibrated(found)
        return predicted if self.calibration is None else self.calibration.apply(predicted)

    def _uncalibrated(self, found: Mapping[str, np.ndarray]) -> Mixture | Histogram:
        match heads.from_json(self.json["head"]):
            case heads.BinsHead(max_val=max_val):
                return Histogram(found["probabilities"], max_val)
            case heads.MixtureHead() as head:
                return Mixture(found["weights"], found["means"], found["sigmas"], head.lower)

    def ood(
        self, images: Float[np.ndarray, "n y x band"], scalars: Mapping[str, np.ndarray] | None = None
    ) -> Float[np.ndarray, " n"]:
        """Say how strange each image is to the model, by its colours: near 1 stranger than nearly all training rows."""
        return self.arrays(images, scalars)["ood"]


def calibrated(model: Path, folder: Path, calibration: Calibration, *, rows: int) -> None:
    """Derive a calibrated model from another, which stays.

    Parameters
    ----------
    model
        The bundle to start from.
    folder
        Where to.
    calibration
        What was learned.
    rows
        On so many held-out rows.
    """
    about = _description(model)
    about |= {"calibration": calibration.json(), "calibrated_on": rows, "derived_from": about["digests"]}
    shutil.copytree(model, folder)
    (folder / "model.json").write_bytes(_described(about))
    (folder / "card.md").write_text(card(about), encoding="utf-8")


def load(folder: Path) -> Bundle:
    """Load a bundle.

    Raises
    ------
    BundleError
        A file is missing, damaged or of a later version.
    """
    about = _description(folder)
    content = {}
    for name, digest in about["digests"].items():
        content[name] = _read(folder / name)
        if hashlib.sha256(content[name]).hexdigest() != digest:
            raise BundleError(f"{folder / name} is not the file that model.json names: fetch the bundle anew")
    try:
        program = export.deserialize(bytearray(content["predictor.stablehlo"]))
    # flatbuffers and MLIR raise what they like for a program of another version.
    except Exception as fault:
        raise BundleError(
            f"{folder / 'predictor.stablehlo'} was written with JAX {about['versions']['jax']} and cannot be read by "
            f"{version('jax')}"
        ) from fault
    return Bundle(about, load_tensors(content["model.safetensors"]), jax.jit(program.call))


def _description(folder: Path) -> dict[str, Any]:
    """Read what ``model.json`` says, if it is what was written."""
    try:
        about = json.loads(_read(folder / "model.json"))
    except ValueError:  # truncated, or no text at all
        about = None
    if isinstance(about, dict) and about.get("format") != FORMAT:
        raise BundleError(f"{folder} has the bundle format {about.get('format')!r}; this version reads {FORMAT}")
    if not isinstance(about, dict) or about.get("digest") != _own_digest(about):
        raise BundleError(f"{folder / 'model.json'} is not the file that was written: fetch the bundle anew")
    return about


def _described(about: Mapping[str, Any]) -> bytes:
    """Write ``model.json``, with a digest of what it says."""
    plain = json.loads(json.dumps(about, default=str))
    return (json.dumps(plain | {"digest": _own_digest(plain)}, indent=1) + "\n").encode()


def _own_digest(about: Mapping[str, Any]) -> str:
    said = {name: value for name, value in about.items() if name != "digest"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as fault:
        raise BundleError(f"{path.parent} is no model bundle: {path.name} is missing") from fault


def _named(parameters: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(parameters)
    return {_name(path): np.ascontiguousarray(leaf) for path, leaf in leaves}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")


def _program(trained: Trained, tensors: Mapping[str, np.ndarray]) -> bytes:
    structure = jax.tree.structure(trained.parameters)
    order = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(trained.parameters)]
    function = predictor(trained)

    def by_name(named: dict[str, jax.Array], images: jax.Array, scalars: jax.Array) -> dict[str, jax.Array]:
        return function(jax.tree.unflatten(structure, [named[name] for name in order]), images, scalars)

    rows, columns, bands = trained.input_shape
    images, scalars = export.symbolic_args_specs(
        (jnp.zeros((1, rows, columns, bands)), jnp.zeros((1, len(trained.recipe.scalars)))),
        (f"n, {rows}, {columns}, {bands}", f"n, {len(trained.recipe.scalars)}"),
    )
    exported = export.export(jax.jit(by_name), platforms=PLATFORMS)(dict(tensors), images, scalars)
    return bytes(exported.serialize())


def _about(trained: Trained) -> dict[str, Any]:
    recipe = trained.recipe
    return {
        "format": FORMAT,
        "network": _shown(recipe.network),
        "head": recipe.parsed_head().json(),
        "members": recipe.members,
        "input_shape": list(trained.input_shape),
        "normalisation": trained.normalisation.json(),
        "scalars": asdict(trained.scalars),
        "z_range": list(trained.z_range),
        "rows": dict(trained.rows),
        "split_digest": trained.split_digest,
        "validation_crps": trained.validation_crps,
        "recipe": recipe.json() | {"network": _shown(recipe.network)},
        "history": [dict(entry) for entry in trained.history],
        "remarks": list(trained.remarks),
        "test_time_average": "the 8 symmetries, mean of the raw outputs",
        "versions": {name: _version(name) for name in ("inzitu", "jax", "jaxlib", "flax", "optax", "numpy")},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a checkout on the path, which is not installed
        return "not installed"


def _shown(network: str | Mapping[str, Any]) -> Any:
    """Give a network's name or declaration; of a shipped one, whose program the predictor holds, the digest."""
    if isinstance(network, str) or "layers" in network:
        return network
    content = json.dumps(dict(network), sort_keys=True).encode()
    return {"format": network["format"], "sha256": hashlib.sha256(content).hexdigest()}
