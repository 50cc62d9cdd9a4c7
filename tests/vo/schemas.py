"""The IVOA's XML schemas, by the validator beside the project; a test that needs it is skipped where it is absent."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

VALIDATOR = Path(__file__).parents[2] / "../shared/tools/validate-xml"


def complaints(document: bytes) -> list[str]:
    """Return what the schema has against a UWS, VOSI or TAPRegExt document."""
    if not VALIDATOR.exists() or shutil.which("stilts") is None:
        pytest.skip("validate-xml or stilts is not here: the document is not held against the schema")
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        file.write(document)
        file.flush()
        run = subprocess.run([VALIDATOR, file.name], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    found = [line for line in lines if "Unused custom schema" not in line]
    return found or ([] if run.returncode == 0 else [f"the validator ended with {run.returncode}"])
