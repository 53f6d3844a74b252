# SPDX-License-Identifier: GPL-2.0-or-later
"""The OCF side of an action: deadline, log, exit reason, and what Pacemaker's variables mean."""

import os
import pty
import syslog
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgsql_ra import ocf
from pgsql_ra.ocf import Deadline, DeadlineExceeded, Exit, Log, is_probe, of_system, resource_name, say_exit_reason

TIMEOUT = "OCF_RESKEY_CRM_meta_timeout"
SLACK_SECONDS = 0.5
"""How late a loaded machine may look at the clock."""


@pytest.fixture(params=["no terminal", "terminal"])
def standard_input(request: pytest.FixtureRequest) -> Iterator[str]:
    """Standard input as Pacemaker leaves it, or as a person's."""
    saved = os.dup(0)
    master, other = pty.openpty()
    empty = os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(other if request.param == "terminal" else empty, 0)
        yield request.param
    finally:
        os.dup2(saved, 0)
        for descriptor in (saved, master, other, empty):
            os.close(descriptor)


class TestDeadline:
    """It lies a little before Pacemaker's own."""

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            pytest.param("20000", 18.0, id="less a tenth"),
            pytest.param("60000", 55.0, id="less 5 seconds at most"),
            pytest.param("3600000", 3595.0, id="an hour"),
            pytest.param("1000", 0.9, id="a second"),
            pytest.param(None, 55.0, id="not set"),
            pytest.param("", 55.0, id="empty"),
            pytest.param("60s", 55.0, id="no number"),
            pytest.param("0", 55.0, id="none"),
            pytest.param("-5", 55.0, id="negative"),
        ],
    )
    def test_it_is_taken_from_the_timeout(self, value: str | None, seconds: float) -> None:
        deadline = Deadline.from_environ({} if value is None else {TIMEOUT: value})
        assert seconds - SLACK_SECONDS < deadline.remaining() <= seconds

    def test_what_has_passed_leaves_nothing(self) -> None:
        assert Deadline(-5).remaining() == 0.0

    def test_a_part_of_it_is_never_longer_than_the_whole(self) -> None:
        assert Deadline(10).within(1).remaining() <= 1
        assert Deadline(1).within(10).remaining() <= 1
        assert Deadline(0).within(10).remaining() == 0.0

    def test_a_pause_lasts_as_long_as_asked(self) -> None:
        begin = time.monotonic()
        Deadline(60).pause("nothing", 0.05)
        assert 0.05 <= time.monotonic() - begin < 0.05 + SLACK_SECONDS

    def test_a_pause_is_cut_short_at_the_end(self) -> None:
        begin = time.monotonic()
        Deadline(0.05).pause("nothing", 60)
        assert time.monotonic() - begin < 0.05 + SLACK_SECONDS

    def test_a_pause_after_the_end_says_what_was_waited_for(self) -> None:
        with pytest.raises(DeadlineExceeded, match="still waiting for the other node"):
            Deadline(0).pause("the other node")


class TestProbe:
    """A monitor before anything was started."""

    @pytest.mark.parametrize(("interval", "expected"), [(None, True), ("", True), ("0", True), ("10000", False)])
    def test_by_its_interval(self, interval: str | None, expected: bool) -> None:
        environ = {} if interval is None else {"OCF_RESKEY_CRM_meta_interval": interval}
        assert is_probe("monitor", environ) is expected

    @pytest.mark.parametrize("action", ["start", "stop", "promote", "demote", "notify", "validate-all"])
    def test_other_actions_are_none(self, action: str) -> None:
        assert not is_probe(action, {})


@pytest.mark.parametrize(
    ("instance", "name"), [("pgsql", "pgsql"), ("pgsql:0", "pgsql"), ("my-db:12", "my-db"), ("", "pgsql")]
)
def test_the_resources_name_is_without_the_number(instance: str, name: str) -> None:
    assert resource_name({"OCF_RESOURCE_INSTANCE": instance}) == name


def test_a_resource_without_a_name_is_called_pgsql() -> None:
    assert resource_name({}) == "pgsql"


class TestExitReason:
    """The line that Pacemaker shows beside a failed action."""

    def test_it_has_the_cookie_and_is_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        say_exit_reason({}, "cannot do it:\n  disk   full\n")
        assert capsys.readouterr().err == "ocf-exit-reason:cannot do it: disk full\n"

    def test_the_cookie_is_pacemakers(self, capsys: pytest.CaptureFixture[str]) -> None:
        say_exit_reason({"OCF_EXIT_REASON_PREFIX": "why="}, "so")
        assert capsys.readouterr().err == "why=so\n"


class TestExitCodes:
    """Which class of error says what."""

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (ocf.InvalidParameter, Exit.CONFIGURED),
            (ocf.NotPermitted, Exit.PERM),
            (ocf.NotInstalled, Exit.INSTALLED),
            (ocf.ServerFailure, Exit.GENERIC),
            (ocf.ClusterFailure, Exit.GENERIC),
            (ocf.NotSafe, Exit.GENERIC),
            (ocf.DeadlineExceeded, Exit.GENERIC),
        ],
    )
    def test_by_class(self, error: type[ocf.AgentError], code: Exit) -> None:
        assert error("why").exit_code == code

    def test_the_numbers_are_those_of_ocf(self) -> None:
        assert [code.value for code in Exit] == list(range(10))


class TestLog:
    """Where Pacemaker tells agents to write."""

    ENVIRON = {"OCF_RESOURCE_INSTANCE": "db:1", "OCF_RESOURCE_TYPE": "pgsql", "HA_LOGFACILITY": "none"}  # noqa: RUF012

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "ha.log"

    @pytest.fixture(autouse=True)
    def without_a_terminal(self) -> Iterator[None]:
        saved = os.dup(0)
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        yield
        os.dup2(saved, 0)
        os.close(saved)
        os.close(empty)

    def log(self, file: Path, **more: str) -> Log:
        """The log of an action in this environment."""
        return Log({**self.ENVIRON, "HA_LOGFILE": str(file), **more})

    def test_a_line_names_the_resource_and_is_one_line(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.log(file).info("first\n   second")
        line = file.read_text()
        assert line.endswith(f"  pgsql(db:1)[{os.getpid()}]:    INFO: first second\n")
        assert line.count("\n") == 1
        assert capsys.readouterr() == ("", "")

    def test_syslog_gets_the_same_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What syslog writes as `pgsql(db:1)[1234]: INFO: ...`, in the facility that Pacemaker names."""
        said: list[tuple[object, ...]] = []
        monkeypatch.setattr("syslog.openlog", lambda *how: said.append(how))
        monkeypatch.setattr("syslog.syslog", lambda *what: said.append(what))
        Log({**self.ENVIRON, "HA_LOGFACILITY": "local3"}).info("changed")
        assert said == [
            ("pgsql(db:1)", syslog.LOG_PID, syslog.LOG_LOCAL3),
            (syslog.LOG_INFO, "INFO: changed"),
        ]

    def test_lines_are_added(self, file: Path) -> None:
        log = self.log(file)
        log.warning("one")
        log.error("two")
        assert [line.partition("]:    ")[2] for line in file.read_text().splitlines()] == ["WARNING: one", "ERROR: two"]

    @pytest.mark.parametrize(("value", "written"), [("0", False), ("", False), ("1", True), ("2", True)])
    def test_details_are_written_if_debug_is_on(self, file: Path, value: str, written: bool) -> None:
        self.log(file, HA_debug=value).debug("detail")
        assert file.exists() is written

    def test_a_trace_takes_details_too(self, file: Path, tmp_path: Path) -> None:
        log = self.log(file)
        with (tmp_path / "trace").open("w") as trace:
            log.trace_to(trace)
            log.debug("detail")
            log.info("change")
        lines = (tmp_path / "trace").read_text().splitlines()
        assert [line.partition(" ")[2] for line in lines] == ["DEBUG: detail", "INFO: change"]
        assert "detail" not in file.read_text()

    @pytest.mark.parametrize("name", ["missing/ha.log", "."])
    def test_a_file_that_cannot_be_written_is_no_failure(
        self, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.log(tmp_path / name).error("lost")
        assert capsys.readouterr() == ("", "")

    def test_without_any_place_it_goes_to_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        Log({}).info("by hand")
        assert capsys.readouterr().err == "INFO: by hand\n"


def test_a_person_sees_the_log(standard_input: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ha.log"
    Log({"HA_LOGFILE": str(file)}).info("hello")
    assert capsys.readouterr().err == ("INFO: hello\n" if standard_input == "terminal" else "")
    assert file.exists() is (standard_input != "terminal")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/tmp/rejoin.job"), "No space left on device: /tmp/rejoin.job"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("something else"), "something else"),
    ],
)
def test_what_the_system_says_is_told_with_its_file(error: OSError, words: str) -> None:
    assert of_system(error) == words
