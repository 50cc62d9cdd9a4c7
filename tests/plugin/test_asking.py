from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inzitu.asking import sorted_out
from inzitu.errors import ParameterFault

OFFER: dict[str, Any] = {
    "uploads": [{"role": role} for role in ("training", "network", "weights")],
    "parameters": [{"name": "NETWORK"}, {"name": "SEED"}],
}


def test_what_a_pipeline_declares_as_a_file_is_one_and_the_rest_are_parameters(tmp_path: Path) -> None:
    for name in ("a", "w", "n"):
        (tmp_path / name).touch()
    pairs = [f"training={tmp_path / 'a'}", f"weights={tmp_path / 'w'}", "SEED=1", "network=dcmdn-a"]
    assert sorted_out(pairs, OFFER) == (
        {"training": tmp_path / "a", "weights": tmp_path / "w"},
        {"SEED": "1", "network": "dcmdn-a"},
    )
    assert sorted_out([f"network={tmp_path / 'n'}"], OFFER) == ({"network": tmp_path / "n"}, {})


def test_a_file_that_is_not_there_and_a_word_alone_are_refused() -> None:
    with pytest.raises(ParameterFault, match=r"training=nowhere.vot: there is no such file"):
        sorted_out(["training=nowhere.vot"], OFFER)
    with pytest.raises(ParameterFault, match="'verbose' is no key=value"):
        sorted_out(["verbose"], OFFER)
