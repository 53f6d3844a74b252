# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of the agent before there is any resource: meta-data, usage, and actions that do not exist."""

import subprocess
from pathlib import Path

import pytest
from lxml import etree

from tests.server.agent import PREFIX, PROJECT, Agent

INSTALLED = PROJECT / ".build" / "ocf" / "resource.d" / "pgsql-ra" / "pgsql"


def installed(*arguments: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed agent in an empty environment."""
    assert INSTALLED.exists(), f"{INSTALLED} is missing: `make test` installs it"
    return subprocess.run(
        ["/usr/bin/env", "-i", str(INSTALLED), *arguments],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        user=user,
    )


def test_meta_data_needs_neither_root_nor_environment() -> None:
    done = installed("meta-data", user="nobody")
    assert (done.returncode, done.stderr) == (0, "")
    assert etree.fromstring(done.stdout).get("name") == "pgsql"
    assert done.stdout.splitlines()[0] == '<?xml version="1.0"?>'


def test_the_installed_agent_answers_a_probe() -> None:
    done = installed("monitor")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


def test_the_installed_agent_stops_what_does_not_run() -> None:
    done = installed("stop")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("action", ["meta-data", "usage", "methods", "help"])
def test_words_that_ask_for_text_get_it(agent: Agent, action: str) -> None:
    answer = agent.run(action, environment={})
    assert (answer.code, answer.err) == (0, "")
    assert "validate-all" in answer.out


def test_further_arguments_are_ignored(agent: Agent) -> None:
    assert agent.run("meta-data", "x", "y").code == 0
    assert agent.run("monitor", "x").code == 7


def test_an_unknown_action_is_not_implemented(agent: Agent) -> None:
    answer = agent.run("nosuch")
    assert answer.code == 3, answer
    assert "usage" in answer.err


def test_no_action_is_an_error_and_no_traceback(agent: Agent) -> None:
    answer = agent.run()
    assert answer.code != 0
    assert "usage" in answer.err


def test_the_prefix_of_the_exit_reason_is_the_callers(agent: Agent) -> None:
    environment = agent.environment(pgport="x") | {"OCF_EXIT_REASON_PREFIX": "zz:"}
    answer = agent.run("validate-all", environment=environment)
    assert any(line.startswith("zz:") for line in answer.err.splitlines()), answer.err
    assert PREFIX not in answer.err


def test_a_secret_is_never_shown(agent: Agent) -> None:
    answer = agent.run("validate-all", monitor_password="hunter2")
    assert answer.code == 6
    assert "monitor_password" in answer.reason
    assert "hunter2" not in answer.err + answer.out + agent.logged()


@pytest.mark.parametrize("where", ["/nonexistent/log", "/proc/self/nothing", "/"])
def test_a_log_that_cannot_be_written_changes_nothing(agent: Agent, where: str) -> None:
    agent.log = Path(where)
    answer = agent.run("validate-all")
    assert (answer.code, answer.err) == (0, "")


def test_debug_is_written_only_if_asked_for(agent: Agent) -> None:
    agent.become_standby()
    before = agent.logged()
    environment = agent.environment(meta={"interval": "10000"}) | {"HA_debug": "0"}
    assert agent.run("monitor", environment=environment).code == 0
    assert "DEBUG" not in agent.logged()[len(before) :]


@pytest.mark.parametrize("words", [("show",), ("why",), ("allow", "n1"), ("rejoin",)], ids=lambda words: words[0])
def test_a_resource_that_is_not_there_is_told_from_one_that_is_stopped(agent: Agent, words: tuple[str, ...]) -> None:
    answer = agent.by_hand(*words, "pgsql-clone")
    assert answer.code == 1
    assert "no resource 'pgsql-clone' (the name of the primitive, not of its clone)" in answer.err


def test_why_says_what_to_do_if_nobody_is_promoted(agent: Agent) -> None:
    agent.become_standby()
    answer = agent.by_hand("why")
    assert answer.code == 0, answer
    assert "pgsql-ra allow NODE" in answer.out
    agent.become_primary()
    assert "pgsql-ra allow NODE" not in agent.by_hand("why").out


def test_a_clone_without_notifications_is_told(agent: Agent) -> None:
    warning = "the clone has no notify=true"
    assert agent.run("start", meta={"on_node": "n1", "promotable": "true", "notify": "false"}).code == 0
    assert warning in agent.logged()
    assert agent.stop().code == 0
    before = agent.logged()
    assert agent.run("start", meta={"on_node": "n1", "promotable": "true", "notify": "true"}).code == 0
    assert warning not in agent.logged()[len(before) :]
