from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inzitu.prov.store import ArtefactStore, digest


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path / "store")


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def whole(store: ArtefactStore) -> bool:
    """Return whether each name in the store stands for content of that digest."""
    return all(digest(place) == place.name for place in store._places())


def test_a_file_is_named_by_its_sha256_and_moved(store: ArtefactStore, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    id, size = store.adopt(path)
    assert id == hashlib.sha256(b"abc").hexdigest()
    assert size == 3
    assert not path.exists()
    assert store.path(id).read_bytes() == b"abc"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs coreutils")
def test_a_folder_is_named_as_coreutils_would(tmp_path: Path) -> None:
    made = folder(tmp_path / "f", {"b.txt": b"1", "a/x": b"2", "a.txt": b"3", "a b": b"4", "é": b"5", "Z": b""})
    script = "find . -type f -printf '%P\\n' | LC_ALL=C sort | tr '\\n' '\\0' | xargs -0 sha256sum | sha256sum"
    expected = subprocess.run(["sh", "-c", script], cwd=made, capture_output=True, check=True).stdout
    assert digest(made) == expected.decode().split()[0]


names = st.lists(st.text("abcé .-", min_size=1, max_size=3).filter(lambda s: s.strip(". ")), min_size=1, max_size=3)
trees = st.dictionaries(names.map("/".join), st.binary(max_size=4), min_size=1, max_size=5).filter(
    lambda tree: not any(a != b and b.startswith(a + "/") for a in tree for b in tree)
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees, other=trees)
def test_folders_have_one_name_exactly_if_they_have_the_same_files(
    tree: dict[str, bytes], other: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    where = tmp_path_factory.mktemp("trees")
    first, second = folder(where / "1", tree), folder(where / "2", other)
    assert (digest(first) == digest(second)) == (tree == other)


def test_equal_content_is_kept_once_and_its_original_removed(store: ArtefactStore, tmp_path: Path) -> None:
    ids = {store.adopt(folder(tmp_path / f"f{n}", {"x": b"1", "y/z": b"2"})) for n in range(3)}
    assert len(ids) == 1
    assert not any((tmp_path / f"f{n}").exists() for n in range(3))
    assert whole(store)


def test_a_kept_original_is_copied_not_linked(store: ArtefactStore, tmp_path: Path) -> None:
    path = tmp_path / "upload.csv"
    path.write_text("1")
    id, _ = store.adopt(path, keep=True)
    path.write_text("2")
    assert store.path(id).read_text() == "1"


def test_content_cannot_be_written_to(store: ArtefactStore, tmp_path: Path) -> None:
    id, _ = store.adopt(folder(tmp_path / "f", {"x": b"1"}))
    assert (store.path(id) / "x").stat().st_mode & 0o222 == 0


def test_links_special_files_and_empty_folders_are_refused(store: ArtefactStore, tmp_path: Path) -> None:
    made = folder(tmp_path / "f", {"x": b"1"})
    (made / "link").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="link"):
        store.adopt(made)
    (made / "link").unlink()
    (made / "away").symlink_to("/etc")
    with pytest.raises(ValueError, match="link"):
        store.adopt(made)
    (tmp_path / "outer").symlink_to(made)
    with pytest.raises(ValueError, match="link"):
        store.adopt(tmp_path / "outer")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="special"):
        store.adopt(tmp_path / "pipe")
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    with pytest.raises(ValueError, match="without files"):
        store.adopt(tmp_path / "empty")
    with pytest.raises(ValueError, match="unprintable"):
        store.adopt(folder(tmp_path / "odd", {"a\nb": b""}))


def test_a_file_that_is_the_list_of_a_folder_cannot_take_its_name(store: ArtefactStore, tmp_path: Path) -> None:
    made = folder(tmp_path / "f", {"x": b"1"})
    forged = tmp_path / "forged"
    forged.write_text(f"{digest(made / 'x')}  x\n")
    id, _ = store.adopt(made)
    with pytest.raises(ValueError, match=id):
        store.adopt(forged)
    assert store.path(id).is_dir()


@pytest.mark.parametrize("name", ["../x", "..", "/etc/passwd", "a/../../x", "x\0", "missing", "", ".", "x/", "a//../x"])
def test_no_name_leads_out_of_a_folder(store: ArtefactStore, tmp_path: Path, name: str) -> None:
    id, _ = store.adopt(folder(tmp_path / "f", {"a/b": b"1"}))
    (store.path(id).parent / "x").write_text("secret")
    with pytest.raises(FileNotFoundError):
        store.member(id, name)
    assert store.member(id, "a/b").read_bytes() == b"1"


@pytest.mark.parametrize("id", ["", "..", "../../etc/passwd", "0" * 63, "G" * 64, "A" * 64])
def test_an_identifier_is_checked_before_it_becomes_a_path(store: ArtefactStore, id: str) -> None:
    with pytest.raises(ValueError, match="64 lower-case"):
        store.path(id)


def test_a_full_disk_leaves_the_original_and_nothing_half_made(
    store: ArtefactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder(tmp_path / "f", {"x": b"1", "y": b"2"})
    copyfile = shutil.copyfile

    def full(source: Path, target: Path) -> Any:
        if Path(source).name == "y":
            Path(target).write_bytes(b"")
            raise OSError(errno.ENOSPC, "No space left on device")
        return copyfile(source, target)

    monkeypatch.setattr("inzitu.prov.store.shutil.copyfile", full)
    with pytest.raises(OSError, match="No space") as caught:
        store.adopt(made, keep=True)
    assert caught.value.errno == errno.ENOSPC
    assert (made / "y").read_bytes() == b"2"
    assert list(store._places()) == []
    assert list((store.root / "incoming").iterdir()) == []


def test_a_file_that_changes_while_it_is_copied_is_refused(
    store: ArtefactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_text("before")

    def changing(source: Path, target: Path) -> None:
        Path(target).write_text("after")

    monkeypatch.setattr("inzitu.prov.store.shutil.copyfile", changing)
    with pytest.raises(ValueError, match="changed while"):
        store.adopt(path, keep=True)
    assert list(store._places()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from inzitu.prov import store
calls, fatal = 0, int(sys.argv[3])
def traced(frame, event, argument):
    global calls
    if "inzitu/prov/store.py" not in frame.f_code.co_filename:
        return None
    calls += 1
    if calls == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return traced
sys.settrace(traced)
store.ArtefactStore(sys.argv[1]).adopt(Path(sys.argv[2]), keep=sys.argv[4] == "keep")
"""


@pytest.mark.parametrize("keep", ["keep", "move"])
def test_a_kill_at_any_moment_loses_nothing(tmp_path: Path, keep: str) -> None:
    store = ArtefactStore(tmp_path / "store")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = 0
    for fatal in (*range(1, 200, 23), *range(200, 1000, 80)):
        made = tmp_path / f"made{fatal}"
        folder(made, {"x": str(fatal).encode(), "y/z": b"2"})
        id = digest(made)
        ran = subprocess.run(
            [sys.executable, "-c", KILLED, str(store.root), str(made), str(fatal), keep], env=environment, check=False
        )
        killed += ran.returncode == -signal.SIGKILL
        if ran.returncode == 0:
            break
        assert store.contains(id) or digest(made) == id
        assert whole(store)
        assert store.adopt(made if made.exists() else store.path(id), keep=True)[0] == id
    assert killed > 3


def test_the_sweep_removes_the_old_and_unwanted_only(store: ArtefactStore, tmp_path: Path) -> None:
    ids = {}
    for name in ("wanted", "unwanted", "young"):
        (tmp_path / name).write_text(name)
        ids[name] = store.adopt(tmp_path / name)[0]
        if name != "young":
            os.utime(store.path(ids[name]), (1, 1))
    remains = store.root / "incoming" / "remains"
    remains.mkdir(parents=True)
    os.utime(remains, (1, 1))
    assert store.sweep(wanted={ids["wanted"]}, grace=60) == [ids["unwanted"]]
    assert store.contains(ids["wanted"])
    assert store.contains(ids["young"])
    assert not remains.exists()


def test_content_that_is_brought_again_is_young_again(store: ArtefactStore, tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "a").write_text("a")
        id, _ = store.adopt(tmp_path / "a")
        age = time.time() - store.path(id).stat().st_mtime
        assert age < 60
        os.utime(store.path(id), (1, 1))
