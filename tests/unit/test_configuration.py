# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration files that the agent writes: quoting, replacing in one step, and the lines that include them."""

import fcntl
import multiprocessing
import os
import pwd
import re
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgsql_ra.ocf import DeadlineExceeded, NotInstalled, NotPermitted
from pgsql_ra.postgres.configuration import (
    RECOVERY_FILE,
    SYNCHRONOUS_FILE,
    ConfigurationFiles,
    parse_synchronous,
    primary_conninfo,
    quote,
    quote_conninfo,
    recovery_settings,
    remove_standby_signal,
    synchronous_in_settings,
    synchronous_settings,
    write_standby_signal,
)
from pgsql_ra.postgres.user import DatabaseUser
from pgsql_ra.replication.snapshot import SynchronousStandbys

printable = st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]))
node_names = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)


def unquote(text: str) -> str:
    """What guc-file.l (GUC_scanstr) makes of a quoted value."""
    assert text[0] == text[-1] == "'"
    return re.sub(r"''|\\(.)", lambda found: "'" if found[0] == "''" else found[1], text[1:-1])


def unquote_conninfo(text: str) -> str:
    """What conninfo_parse makes of a value."""
    return re.sub(r"\\(.)", r"\1", text[1:-1] if text.startswith("'") else text)


@pytest.fixture
def user() -> DatabaseUser:
    """Whoever runs the tests."""
    return DatabaseUser(pwd.getpwuid(os.geteuid()).pw_name)


@pytest.fixture
def files(tmp_path: Path, user: DatabaseUser) -> ConfigurationFiles:
    """The files of a server whose configuration is empty."""
    (tmp_path / "tmp").mkdir()
    config = tmp_path / "postgresql.conf"
    config.touch()
    return ConfigurationFiles(str(config), str(tmp_path / "tmp"), user)


class TestQuoting:
    """Whatever a value holds, the server reads the same value."""

    @given(printable)
    def test_a_setting(self, value: str) -> None:
        assert unquote(quote(value)) == value

    @given(printable)
    def test_a_connection_value(self, value: str) -> None:
        assert unquote_conninfo(quote_conninfo(value)) == value

    @pytest.mark.parametrize("value", ["", "a b", "it's", "back\\slash", "=", "'", "\\'"])
    def test_what_could_be_misread_is_quoted(self, value: str) -> None:
        assert quote_conninfo(value).startswith("'")

    @pytest.mark.parametrize("value", ["192.0.2.1", "fe80::1", "node-1", "/run/postgresql", "db_user"])
    def test_what_is_plain_stays_readable(self, value: str) -> None:
        assert quote_conninfo(value) == value


def test_the_connection_string_of_a_standby() -> None:
    assert (
        primary_conninfo("192.0.2.1", 5432, "it's me", "node-1", "sslmode=require")
        == r"host=192.0.2.1 port=5432 user='it\'s me' application_name=node-1"
        " keepalives_idle=10 keepalives_interval=5 keepalives_count=3"
        " options='-c wal_sender_timeout=6s' sslmode=require"
    )


def test_recovery_settings_leave_out_what_is_empty() -> None:
    lines = recovery_settings({"primary_conninfo": "host='x'", "restore_command": ""}).splitlines()
    assert lines[0].startswith("#")
    assert lines[1:] == ["primary_conninfo = 'host=''x'''"]


class TestSynchronousNames:
    """Names as PostgreSQL's parser wants them (src/backend/replication/syncrep_gram.y)."""

    @pytest.mark.parametrize(
        ("names", "line"),
        [
            pytest.param((), "''", id="nobody"),
            pytest.param(("beta",), "'\"beta\"'", id="one"),
            pytest.param(("beta", "gamma"), '\'FIRST 2 ("beta", "gamma")\'', id="two"),
            pytest.param(("any",), "'\"any\"'", id="a key word"),
            pytest.param(("first",), "'\"first\"'", id="another"),
            pytest.param(("node-1.example",), "'\"node-1.example\"'", id="hyphen and dots"),
            pytest.param(("2",), "'\"2\"'", id="a number"),
            pytest.param(("*",), "'\"*\"'", id="a star"),
        ],
    )
    def test_the_setting(self, names: tuple[str, ...], line: str) -> None:
        assert (
            synchronous_settings(SynchronousStandbys(names)).splitlines()[-1] == f"synchronous_standby_names = {line}"
        )

    @pytest.mark.parametrize(
        ("setting", "names"),
        [
            ("", ()),
            ("beta", ("beta",)),
            ('"node-1"', ("node-1",)),
            ("beta, gamma", ("beta", "gamma")),
            ('FIRST 2 ("node-1", Node2)', ("node-1", "node2")),
            ("ANY 1 (a,b)", ("a", "b")),
            ("2 (a, b)", ("a", "b")),
            ("  beta  ", ("beta",)),
            ('"first"', ("first",)),
        ],
    )
    def test_what_the_server_says(self, setting: str, names: tuple[str, ...]) -> None:
        assert parse_synchronous(setting).names == names

    @given(st.lists(node_names, unique=True, max_size=3).map(tuple))
    def test_what_was_written_is_read_back(self, names: tuple[str, ...]) -> None:
        assert synchronous_in_settings(synchronous_settings(SynchronousStandbys(names))) == SynchronousStandbys(names)

    @pytest.mark.parametrize("text", ["", "# nothing\n", "synchronous_commit = 'on'\n"])
    def test_another_text_is_none_of_ours(self, text: str) -> None:
        assert synchronous_in_settings(text) is None

    def test_the_file_says_what_the_next_reload_would_put_in_force(self, files: ConfigurationFiles) -> None:
        assert files.synchronous() is None
        files.write(SYNCHRONOUS_FILE, synchronous_settings(SynchronousStandbys(("beta",))))
        assert files.synchronous() == SynchronousStandbys(("beta",))


class TestWriting:
    """Whoever reads sees the old text or the new one."""

    def test_the_text_is_replaced_and_nobody_else_reads_it(self, files: ConfigurationFiles) -> None:
        files.write(RECOVERY_FILE, "old, and longer\n")
        files.write(RECOVERY_FILE, "new\n")
        path = Path(files.path(RECOVERY_FILE))
        assert path.read_text() == "new\n"
        assert path.stat().st_mode & 0o777 == 0o600
        assert os.listdir(path.parent) == [RECOVERY_FILE]

    def test_a_reader_keeps_the_old_text(self, files: ConfigurationFiles) -> None:
        """Another file takes the place: nothing is written into the one that is being read."""
        files.write(RECOVERY_FILE, "old\n")
        with open(files.path(RECOVERY_FILE), encoding="utf-8") as reader:
            files.write(RECOVERY_FILE, "new\n")
            assert reader.read() == "old\n"

    def test_what_an_interrupted_attempt_left_is_no_hindrance(self, files: ConfigurationFiles) -> None:
        Path(files.path(RECOVERY_FILE) + ".new").write_text("half")
        files.write(RECOVERY_FILE, "new\n")
        assert Path(files.path(RECOVERY_FILE)).read_text() == "new\n"

    def test_a_link_in_its_place_is_replaced_and_not_followed(self, files: ConfigurationFiles, tmp_path: Path) -> None:
        """The directory belongs to the database user, and the agent is root."""
        victim = tmp_path / "victim"
        victim.write_text("precious")
        os.symlink(victim, files.path(RECOVERY_FILE))
        with pytest.raises(NotPermitted, match="it is a link"):
            files.read(RECOVERY_FILE)
        files.write(RECOVERY_FILE, "new\n")
        assert files.read(RECOVERY_FILE) == "new\n"
        assert victim.read_text() == "precious"

    def test_writers_at_the_same_time_do_not_undo_each_other(self, files: ConfigurationFiles) -> None:
        """The work after a promotion and the first monitor both change the recovery file in the same second."""
        files.write(RECOVERY_FILE, "")

        def add(word: str) -> None:
            for number in range(25):
                files.change(RECOVERY_FILE, partial("{1}{0}\n".format, f"{word}{number}"))

        writers = [multiprocessing.get_context("fork").Process(target=add, args=(word,)) for word in "abcd"]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0] * 4
        assert sorted((files.read(RECOVERY_FILE) or "").split()) == sorted(f"{w}{n}" for w in "abcd" for n in range(25))
        assert os.listdir(os.path.dirname(files.path(RECOVERY_FILE))) == [RECOVERY_FILE]

    def test_what_a_killed_writer_has_left_is_removed(self, files: ConfigurationFiles) -> None:
        left = Path(files.path(RECOVERY_FILE) + ".unfinished-0123")
        left.write_text("half")
        files.write(RECOVERY_FILE, "new\n")
        assert not left.exists()

    def test_a_lock_that_somebody_holds_does_not_hold_for_ever(
        self, files: ConfigurationFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pgsql_ra.postgres.user_files.LOCK_SECONDS", 0.1)
        directory = os.open(os.path.dirname(files.path("x")), os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        with pytest.raises(DeadlineExceeded, match="lock"):
            files.write("x", "")
        os.close(directory)

    def test_a_missing_directory_is_reported(self, tmp_path: Path, user: DatabaseUser) -> None:
        lost = ConfigurationFiles(str(tmp_path / "postgresql.conf"), str(tmp_path / "lost"), user)
        with pytest.raises(NotPermitted, match=r"recovery\.conf"):
            lost.write(RECOVERY_FILE, "new\n")

    def test_the_directory_is_made_for_nobody_else(self, tmp_path: Path, user: DatabaseUser) -> None:
        made = ConfigurationFiles("", str(tmp_path / "a" / "b"), user)
        made.prepare_directory()
        made.prepare_directory()
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700

    def test_a_file_in_the_directorys_place_is_reported(self, tmp_path: Path, user: DatabaseUser) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(NotPermitted, match="tmpdir"):
            ConfigurationFiles("", str(tmp_path / "file"), user).prepare_directory()


class TestIncludes:
    """The lines in the server's own configuration."""

    @staticmethod
    def lines(tmp_path: Path) -> list[str]:
        return (tmp_path / "postgresql.conf").read_text().splitlines()

    def test_they_are_added_once(self, files: ConfigurationFiles, tmp_path: Path) -> None:
        for _ in range(3):
            files.include(RECOVERY_FILE, SYNCHRONOUS_FILE)
        tmp = tmp_path / "tmp"
        assert [line.partition(" #")[0] for line in self.lines(tmp_path)] == [
            f"include_if_exists '{tmp}/recovery.conf'",
            f"include_if_exists '{tmp}/rep_mode.conf'",
        ]

    @pytest.mark.parametrize("form", ["include '{}'", "include '{}' # added by pgsql RA", "  include_if_exists = '{}'"])
    def test_a_line_that_does_it_already_is_left_as_it_is(
        self, files: ConfigurationFiles, tmp_path: Path, form: str
    ) -> None:
        """The first two are the shell agent's."""
        line = form.format(files.path(SYNCHRONOUS_FILE))
        (tmp_path / "postgresql.conf").write_text(f"port = 5432\n{line}\n")
        files.include(SYNCHRONOUS_FILE)
        assert self.lines(tmp_path) == ["port = 5432", line]

    @pytest.mark.parametrize("form", ["# include '{}'", "include '{}.old'", "include_dir '{}'"])
    def test_a_line_that_does_not_is_no_substitute(self, files: ConfigurationFiles, tmp_path: Path, form: str) -> None:
        (tmp_path / "postgresql.conf").write_text(form.format(files.path(SYNCHRONOUS_FILE)) + "\n")
        files.include(SYNCHRONOUS_FILE)
        assert len(self.lines(tmp_path)) == 2

    def test_a_last_line_without_an_end_gets_one(self, files: ConfigurationFiles, tmp_path: Path) -> None:
        (tmp_path / "postgresql.conf").write_text("port = 5432")
        files.include(SYNCHRONOUS_FILE)
        assert self.lines(tmp_path)[0] == "port = 5432"
        assert len(self.lines(tmp_path)) == 2

    def test_bytes_that_are_no_text_stay(self, files: ConfigurationFiles, tmp_path: Path) -> None:
        (tmp_path / "postgresql.conf").write_bytes(b"# caf\xe9\n")
        files.include(SYNCHRONOUS_FILE)
        assert (tmp_path / "postgresql.conf").read_bytes().startswith(b"# caf\xe9\n")

    def test_a_missing_configuration_is_reported(self, tmp_path: Path, user: DatabaseUser) -> None:
        with pytest.raises(NotInstalled, match="config"):
            ConfigurationFiles(str(tmp_path / "none"), str(tmp_path), user).include(SYNCHRONOUS_FILE)


def test_the_signal_file_comes_and_goes(tmp_path: Path, user: DatabaseUser) -> None:
    for _ in range(2):
        write_standby_signal(str(tmp_path), user)
        assert os.listdir(tmp_path) == ["standby.signal"]
    for _ in range(2):
        remove_standby_signal(str(tmp_path), user)
        assert os.listdir(tmp_path) == []


def test_a_data_directory_that_is_none_is_reported(tmp_path: Path, user: DatabaseUser) -> None:
    with pytest.raises(NotPermitted, match=r"standby\.signal"):
        write_standby_signal(str(tmp_path / "none"), user)
