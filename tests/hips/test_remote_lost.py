"""A server from which nothing comes any more: a run over many tiles ends all the same, and soon."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cdshealpix.nested import healpix_to_lonlat

from hips.conftest import Sky, noise
from hips.test_remote import Server, root, server
from inzitu.hips import Survey, TileError, cutouts, remote

__all__ = ["root", "server"]  # fixtures


@pytest.mark.parametrize("manner", ["hang", "busy"])
def test_a_run_over_many_tiles_gives_a_silent_server_up_and_keeps_what_had_come(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    monkeypatch.setattr(remote, "LOST", 0.1)
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    server.root = Sky(noise(1, 8), 1, 8).write(tmp_path / "tree")
    lon, lat = healpix_to_lonlat(np.arange(48), 1)
    survey = Survey.open(server.url, cache=tmp_path / "cache")
    before = cutouts([survey], lon.deg[:8], lat.deg[:8], size=4, scale=900.0)
    asked = len(server.asked)
    server.manner = manner
    cut = cutouts([survey], lon.deg, lat.deg, size=4, scale=900.0)
    assert len(server.asked) - asked < 2 * 40  # two attempts for each of 40 tiles that are not in the cache
    assert any("not asked for: after 0.1 s of waiting in vain the server is given up" in str(e) for e in cut.errors)
    assert cut.status_words() == ["ok"] * 8 + ["error"] * 40
    np.testing.assert_array_equal(cut.pixels[:8], before.pixels)
    server.manner = "well"  # for the next run it is another server
    again = cutouts([Survey.open(server.url, cache=tmp_path / "cache")], lon.deg, lat.deg, size=4, scale=900.0)
    assert again.status_words() == ["ok"] * 48


def test_one_file_that_comes_makes_a_slow_server_good_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "LOST", 2.0)
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    survey = Survey.open(server.url, cache=tmp_path)
    place = survey.place
    assert isinstance(place, remote.Remote)
    for k in range(4):  # together longer than LOST
        server.manner = "hang"
        with pytest.raises(TileError, match=r"silent for 0\.3 s, after 2 attempts"):
            place.fetch(f"{server.url}/Norder0/Dir0/Npix{k}.fits", None)
        server.manner = "well"
        assert place.fetch(f"{server.url}/Norder0/Dir0/Npix{k}.fits", None) is not None
