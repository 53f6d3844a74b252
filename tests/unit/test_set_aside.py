# SPDX-License-Identifier: GPL-2.0-or-later
"""What was replaced is set aside, and the oldest of it is deleted: by the order of things, not by the clock."""

import os
import pwd
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pgsql_ra.postgres.base_copy import CannotCopy, Swap, carry_out, discard, plan_swaps, prune, set_aside
from pgsql_ra.postgres.user import DatabaseUser
from pgsql_ra.postgres.user_files import UserFiles


@pytest.fixture
def files() -> UserFiles:
    """Of whoever runs the tests."""
    return UserFiles(DatabaseUser(pwd.getpwuid(os.geteuid()).pw_name))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a tablespace."""
    data = tmp_path / "data"
    fill(data, tmp_path / "space", "old")
    return data


def fill(data: Path, space: Path, content: str) -> None:
    """What makes a data directory with one tablespace."""
    (data / "pg_tblspc").mkdir(parents=True)
    (space / "PG_15_1").mkdir(parents=True)
    (data / "PG_VERSION").write_text(content)
    (space / "PG_15_1" / "table").write_text(content)
    (data / "pg_tblspc" / "16384").symlink_to(space)


def new_copy(data: Path) -> None:
    """A copy that is complete."""
    new = data.with_name("data.pgsql-ra.new")
    (new / "pg_tblspc").mkdir(parents=True)
    (new / "PG_VERSION").write_text("new")
    space = data.with_name("space")
    (space / "pgsql-ra.new" / "PG_15_1").mkdir(parents=True)
    (space / "pgsql-ra.new" / "PG_15_1" / "table").write_text("new")
    (new / "pg_tblspc" / "16384").symlink_to(space)


def test_a_clock_that_went_back_does_not_make_the_newest_the_oldest(data: Path, files: UserFiles) -> None:
    data.with_name("data.old-20990101T000000").mkdir()
    (swap,) = [swap for swap in plan_swaps(str(data), files) if swap.current == str(data)]
    assert swap.old == f"{data}.old-20990101T000001"
    new_copy(data)
    carry_out(files, plan_swaps(str(data), files))
    pruned = prune(files, str(data), 1)
    assert pruned.deleted == (f"{data}.old-20990101T000000",)
    assert set_aside(str(data)) == [swap.old]


def test_what_was_set_aside_just_now_is_the_newest_whatever_its_name_says(data: Path, files: UserFiles) -> None:
    """Earlier versions named it by the clock alone."""
    data.with_name("data.old-20990101T000000").mkdir()
    just_now = data.with_name("data.old-20260101T000000")
    just_now.mkdir()
    assert prune(files, str(data), 1, str(just_now)).deleted == (f"{data}.old-20990101T000000",)
    assert just_now.exists()
    assert prune(files, str(data), 0, str(just_now)).deleted == (str(just_now),)


def test_two_within_a_second_have_two_names(data: Path, files: UserFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.strptime("20260101T000000", "%Y%m%dT%H%M%S")
    monkeypatch.setattr(
        "time.localtime", lambda seconds=None, really=time.localtime: really(seconds) if seconds else now
    )
    names = []
    for _ in range(2):
        names.append(plan_swaps(str(data), files)[-1].old)
        Path(names[-1]).mkdir()
    assert len(set(names)) == 2


def test_a_name_that_is_no_time_is_reported(data: Path, files: UserFiles) -> None:
    data.with_name("data.old-99999999T999999").mkdir()
    with pytest.raises(CannotCopy, match="holds no time"):
        plan_swaps(str(data), files)


@pytest.mark.parametrize("steps", range(14))
def test_swaps_that_were_broken_off_anywhere_are_completed(
    data: Path, files: UserFiles, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """A worker that is killed after so many steps has left some parts new, some old, and one nowhere."""
    new_copy(data)
    swaps = plan_swaps(str(data), files)
    die_after(steps, monkeypatch)
    try:
        carry_out(files, swaps)
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    for _ in range(2):
        carry_out(files, swaps)
        assert (data / "PG_VERSION").read_text() == "new"
        assert (data / "pg_tblspc" / "16384" / "PG_15_1" / "table").read_text() == "new"
        (old,) = set_aside(str(data))
        assert (Path(old) / "PG_VERSION").read_text() == "old"
        assert (Path(old) / "pg_tblspc" / "16384" / "PG_15_1" / "table").read_text() == "old"
    discard(files, swaps)
    assert sorted(path.name for path in data.parent.iterdir()) == ["data", Path(old).name, "space"]
    assert len(prune(files, str(data), 0).deleted) == 1
    assert sorted(path.name for path in data.with_name("space").iterdir()) == ["PG_15_1"]


def die_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be killed before the next change of a name when `steps` were done."""
    left = [steps]

    def dying(really: object) -> object:
        def step(*given: object, **named: object) -> object:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return really(*given, **named)  # type: ignore[operator]

        return step

    for name in ("rename", "rmdir", "mkdir", "symlink", "unlink"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))


def test_a_swap_says_where_everything_goes(data: Path, files: UserFiles) -> None:
    space, whole = plan_swaps(str(data), files)
    place = data.with_name("space")
    stamp = whole.old.rpartition("-")[2]
    assert whole == Swap(str(data), f"{data}.pgsql-ra.new", f"{data}.old-{stamp}")
    assert space == Swap(f"{place}/PG_15_1", f"{place}/pgsql-ra.new/PG_15_1", f"{place}/old-{stamp}/PG_15_1")


@pytest.fixture
def srv() -> Iterator[Path]:
    """A directory of root's that everybody may enter, and in it data of a user's."""
    if os.geteuid() != 0:
        pytest.skip("gives things away")
    with TemporaryDirectory(prefix="pgsql-ra-srv.") as name:
        srv = Path(name)
        srv.chmod(0o755)
        for directory in ("data", "data/pg_tblspc"):
            (srv / directory).mkdir(mode=0o700)
            shutil.chown(srv / directory, "nobody")
        yield srv


def test_in_a_directory_of_roots_root_does_what_the_user_may_not(srv: Path) -> None:
    """/srv/data: only root can rename anything there."""
    files = UserFiles(DatabaseUser("nobody"))
    swaps = plan_swaps(str(srv / "data"), files)
    files.provide_directory(swaps[0].new, 0o700)
    assert Path(swaps[0].new).owner() == "nobody"
    files.write(f"{swaps[0].new}/PG_VERSION", "15\n")
    carry_out(files, swaps)
    assert (srv / "data" / "PG_VERSION").exists()
    assert prune(files, str(srv / "data"), 0).deleted == (swaps[0].old,)
    assert os.listdir(srv) == ["data"]


def test_but_not_where_a_link_of_the_users_leads(srv: Path) -> None:
    files = UserFiles(DatabaseUser("nobody"))
    (srv / "home").mkdir()
    shutil.chown(srv / "home", "nobody")
    for target in (srv / "data", srv / "nothing", srv / "home" / ".." / "data"):
        with UserFiles(DatabaseUser("nobody")).user.acting():
            (srv / "home" / "link").symlink_to(target)
        with pytest.raises(CannotCopy, match="cannot write"):
            plan_swaps(str(srv / "home" / "link"), files)
        (srv / "home" / "link").unlink()
    # One that root has made is the administrator's word.
    (srv / "link").symlink_to(srv / "data")
    assert plan_swaps(str(srv / "link"), files)[-1].current == str(srv / "data")


def test_root_renames_nothing_that_is_not_the_users(srv: Path) -> None:
    files = UserFiles(DatabaseUser("nobody"))
    (srv / "etc").mkdir()
    with pytest.raises(PermissionError, match="does not belong to nobody"):
        files.rename(str(srv / "etc"), str(srv / "other"))
    with pytest.raises(PermissionError):
        files.remove_directory(str(srv / "etc"))
    with pytest.raises(PermissionError):
        files.rename(str(srv / "data"), str(srv / "etc" / "data"))
    assert sorted(os.listdir(srv)) == ["data", "etc"]
