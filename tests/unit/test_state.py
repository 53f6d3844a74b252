# SPDX-License-Identifier: GPL-2.0-or-later
"""What root believes lies where only root can write, and the way there is only root's too."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pgsql_ra.ocf import Deadline, DeadlineExceeded, NotPermitted
from pgsql_ra.state import LARGEST_BYTES, PLACE_VARIABLE, StateDirectory
from pgsql_ra.trusted import NotTrusted, trusted_directory

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives things away")


@pytest.fixture
def place() -> Iterator[Path]:
    """Below /tmp, whose sticky bit keeps what is root's from others."""
    with TemporaryDirectory(prefix="pgsql-ra-state.") as name:
        yield Path(name)


@pytest.fixture
def state(place: Path) -> StateDirectory:
    """The state of a resource, not made yet."""
    return StateDirectory("pgsql", {PLACE_VARIABLE: str(place / "lib" / "pgsql-ra")})


def test_what_is_written_is_read(state: StateDirectory, place: Path) -> None:
    assert state.read("promotion") is None
    state.remove("promotion")
    for text in ("first\n", "second\n", ""):
        state.write("promotion", text)
        assert state.read("promotion") == text
    directory = place / "lib" / "pgsql-ra" / "pgsql"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "promotion").stat().st_mode & 0o777 == 0o600
    assert state.path("promotion") == str(directory / "promotion")
    state.remove("promotion")
    assert os.listdir(directory) == []


def test_names_of_resources_stay_in_their_place(place: Path) -> None:
    for name in ("../up", "..", ".", "", "a/b"):
        StateDirectory(name, {PLACE_VARIABLE: str(place)}).write("x", name)
        assert StateDirectory(name, {PLACE_VARIABLE: str(place)}).read("x") == name
    assert len(os.listdir(place)) == 5
    state = StateDirectory("a/b", {PLACE_VARIABLE: str(place)})
    assert [other.read("x") for other in state.others()] != []
    assert "a/b" not in [other.read("x") for other in state.others()]


def test_unreadable_is_not_missing(state: StateDirectory, place: Path) -> None:
    state.write("x", "text")
    directory = place / "lib" / "pgsql-ra" / "pgsql"
    (directory / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(NotPermitted, match="damaged"):
        state.read("x")
    (directory / "x").write_bytes(b"x" * (LARGEST_BYTES + 1))
    with pytest.raises(NotPermitted, match="too large"):
        state.read("x")
    (directory / "x").unlink()
    os.mkfifo(directory / "x")
    with pytest.raises(NotPermitted, match="not a file"):
        state.read("x")
    (directory / "x").unlink()
    (directory / "x").symlink_to("/etc/passwd")
    with pytest.raises(NotPermitted, match="cannot read"):
        state.read("x")


@needs_root
def test_what_others_may_change_is_refused(state: StateDirectory, place: Path) -> None:
    state.write("x", "text")
    directory = place / "lib" / "pgsql-ra" / "pgsql"
    spoilt: tuple[tuple[Path, int, int], ...] = (
        (directory, 0, 0o750),
        (directory, NOBODY, 0o700),
        (directory.parent, 0, 0o777),
        (directory.parent, NOBODY, 0o755),
        (place / "lib", NOBODY, 0o755),
    )
    for path, owner, mode in spoilt:
        before = path.stat().st_mode
        os.chown(path, owner, 0)
        path.chmod(mode)
        with pytest.raises(NotPermitted, match="root"):
            state.read("x")
        with pytest.raises(NotPermitted, match="root"):
            state.write("x", "other")
        with pytest.raises(NotPermitted, match="root"):
            state.open_lock("lock")
        os.chown(path, 0, 0)
        path.chmod(before)
        assert state.read("x") == "text"


@needs_root
def test_a_link_is_followed_if_root_made_it(place: Path) -> None:
    (place / "elsewhere").mkdir()
    (place / "link").symlink_to("elsewhere")
    StateDirectory("a", {PLACE_VARIABLE: str(place / "link")}).write("x", "1")
    assert (place / "elsewhere" / "a" / "x").read_text() == "1"
    (place / "elsewhere" / "up").symlink_to(place / "elsewhere" / ".." / "link")
    with trusted_directory(str(place / "link" / "up" / "a")) as descriptor:
        assert os.listdir(descriptor) == ["x"]
    os.lchown(place / "link", NOBODY, NOBODY)
    with pytest.raises(NotPermitted, match="link"):
        StateDirectory("a", {PLACE_VARIABLE: str(place / "link")}).read("x")
    (place / "round").symlink_to("round")
    with pytest.raises(NotTrusted), trusted_directory(str(place / "round")):
        pass


def test_writers_at_the_same_time_leave_one_whole_text_and_nothing_else(state: StateDirectory, place: Path) -> None:
    state.write("x", "")
    texts = [str(number) * 5000 for number in range(8)]

    def write(text: str) -> None:
        for _ in range(20):
            state.write("x", text)
            assert state.read("x") in texts

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    directory = place / "lib" / "pgsql-ra" / "pgsql"
    assert state.read("x") in texts
    (directory / "x.unfinished-1234").write_text("left by a killed writer")
    state.write("x", "last")
    assert os.listdir(directory) == ["x"]


def test_a_lock_is_waited_for(state: StateDirectory) -> None:
    with state.locked("lock"), pytest.raises(DeadlineExceeded), state.locked("lock", Deadline(0.1)):
        pass
    with state.locked("lock", Deadline(0.1)):
        pass
