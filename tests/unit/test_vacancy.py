# SPDX-License-Identifier: GPL-2.0-or-later
"""A place without data, and what keeps a copy from being put there."""

import os
import pwd
from pathlib import Path

import pytest

from pgsql_ra.ocf import NotPermitted
from pgsql_ra.postgres.base_copy import Swap, carry_out
from pgsql_ra.postgres.promotion_file import remembered_system
from pgsql_ra.postgres.user import DatabaseUser
from pgsql_ra.postgres.user_files import UserFiles
from pgsql_ra.postgres.vacancy import hindrance, is_vacant
from pgsql_ra.state import PLACE_VARIABLE, StateDirectory


def test_what_is_vacant(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert is_vacant(str(data))
    (tmp_path / "link").symlink_to(data)
    assert is_vacant(str(tmp_path / "link")), "a link that leads nowhere"
    data.mkdir()
    assert is_vacant(str(data))
    (data / "lost+found").mkdir()
    assert is_vacant(str(data))
    (data / "notes").touch()
    assert not is_vacant(str(data))
    assert not is_vacant(str(data / "notes")), "a file is something"


def test_what_cannot_be_read_is_not_vacant(tmp_path: Path) -> None:
    with pytest.raises(NotPermitted):
        is_vacant(str(tmp_path / ("x" * 300)))


@pytest.mark.parametrize(
    ("fstab", "mounted", "hindered"),
    [
        pytest.param("", "", False, id="no table"),
        pytest.param("/dev/a {root}/my\\040disk ext4 defaults 0 0", "", True, id="a parent"),
        pytest.param("/dev/a {root}/my\\040disk/data/ ext4 defaults 0 0", "", True, id="the directory itself"),
        pytest.param("/dev/a {root}/link xfs", "", True, id="a link to a parent, and the last fields left out"),
        pytest.param("/dev/a {root}/my\\040disk ext4 defaults 0 0", "{root}/my\\040disk", False, id="mounted"),
        pytest.param("  # /dev/a {root}/my\\040disk ext4", "", False, id="a comment"),
        pytest.param("/dev/a {root}/my\\040disk/data2 ext4", "", False, id="a directory with a longer name"),
        pytest.param("/dev/a {root}/my\\040disk/data/below ext4", "", False, id="below the directory"),
        pytest.param("/dev/a / ext4\n\n/dev/b none swap sw 0 0\nodd\n", "", False, id="the root, swap, and nonsense"),
    ],
)
def test_a_filesystem_that_is_not_mounted(tmp_path: Path, fstab: str, mounted: str, hindered: bool) -> None:
    (tmp_path / "my disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "my disk")
    table, mounts = tmp_path / "fstab", tmp_path / "mountinfo"
    table.write_text(fstab.format(root=tmp_path))
    mounts.write_text(f"36 35 98:0 / {mounted.format(root=tmp_path) or '/x'} rw,noatime - ext4 /dev/a rw\n")
    found = hindrance(str(tmp_path / "my disk" / "data"), str(table), str(mounts))
    assert bool(found) is hindered
    assert not hindered or "is not mounted: mount it" in found


def test_a_mount_point_and_a_place_in_nowhere(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"36 35 98:0 / {tmp_path} rw - ext4 /dev/a rw\n")
    nothing = str(tmp_path / "no such table")
    assert "is a mount point" in hindrance(str(tmp_path), nothing, str(mounts))
    assert hindrance(str(tmp_path / "data"), nothing, str(mounts)) == ""
    assert f"no directory {tmp_path}/a to" in hindrance(str(tmp_path / "a" / "data"), nothing, str(mounts))
    assert "is a mount point" in hindrance("/proc", "/dev/null"), "by the kernel's own table"


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotPermitted):
        hindrance(str(tmp_path / "data"), str(tmp_path))


@pytest.mark.parametrize(
    ("text", "system"),
    [("7711444395985399001\n1@n2\n", "7711444395985399001"), ("", ""), ("what\n", ""), (None, "")],
)
def test_the_system_that_a_node_remembers(tmp_path: Path, text: str | None, system: str) -> None:
    state = StateDirectory("pgsql", {PLACE_VARIABLE: str(tmp_path)})
    if text is not None:
        state.write("promotion", text)
    assert remembered_system(state) == system


def test_a_memory_that_cannot_be_read(tmp_path: Path) -> None:
    state = StateDirectory("pgsql", {PLACE_VARIABLE: str(tmp_path)})
    state.write("other", "")
    os.mkdir(state.path("promotion"))
    with pytest.raises(NotPermitted):
        remembered_system(state)


@pytest.mark.parametrize("there", [(), ("data",), ("data", "data/lost+found")], ids=["missing", "empty", "lost+found"])
def test_an_empty_directory_is_not_set_aside(tmp_path: Path, there: tuple[str, ...]) -> None:
    for name in (*there, "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "new" / "PG_VERSION").touch()
    swap = Swap(str(tmp_path / "data"), str(tmp_path / "new"), str(tmp_path / "old"))
    for _ in range(2):
        carry_out(UserFiles(DatabaseUser(pwd.getpwuid(os.geteuid()).pw_name)), (swap,))
        assert (tmp_path / "data" / "PG_VERSION").exists()
        assert not (tmp_path / "new").exists()
        assert (tmp_path / "old").exists() is (len(there) > 1)
