# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets of the standbys' connection to the primary."""

import json
import stat

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import Database
from tests.server.stand_in import StandInCluster
from tests.server.test_following import Following
from tests.server.test_notify import told

SECRET = r"Hunter 2:\'x"


@pytest.mark.parametrize("secrets", ["a password", "several"])
def test_secrets_in_primary_conninfo_opt_stay_out_of_the_log(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase, secrets: str
) -> None:
    """The server logs primary_conninfo whenever it changes, which it does before and after each promotion."""
    pair = Following(agent, cluster, make_database)
    pair.source.sql(
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE rep LOGIN REPLICATION PASSWORD 'Hunter 2:\\''x'"
    )
    hba = pair.source.data / "pg_hba.conf"
    hba.write_text(f"host replication rep 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
    pair.source.sql("SELECT pg_reload_conf()")
    quoted = SECRET.replace("\\", "\\\\").replace("'", "\\'")
    others = "sslpassword=Hunter3 sslmode=disable" if secrets == "several" else ""
    agent.parameters |= {"repuser": "rep", "primary_conninfo_opt": f"password='{quoted}' {others} keepalives_idle=7"}
    agent.parameters |= {"trace_ra": "1", "trace_file": str(pair.standby.root / "trace")}
    assert agent.run("reload-agent").code == 0

    def streams_as() -> object:
        return pair.source.sql("SELECT max(usename) FROM pg_stat_replication WHERE state = 'streaming'")

    assert agent.stop().code == 0
    agent.become_standby()
    eventually("it streams with the password", streams_as, lambda user: user == "rep", within=20)
    assert agent.run("notify", meta=told("pre", "promote", promote="n3", unpromoted="n1 n3")).code == 0
    assert agent.run("notify", meta=told("post", "promote", promote="n2", unpromoted="n1")).code == 0
    eventually("it streams again", streams_as, lambda user: user == "rep", within=20)
    conninfo = pair.standby.sql("SHOW primary_conninfo")
    assert "keepalives_idle=7" in conninfo
    assert "primary_conninfo" in pair.standby.log.read_text(), "it was told"
    trace = (pair.standby.root / "trace").read_text()
    calls = json.dumps(cluster.calls())
    for text in (conninfo, pair.standby.log.read_text(), pair.source.log.read_text(), agent.logged(), trace, calls):
        assert "Hunter" not in text
    if secrets == "several":
        assert "service=" in conninfo
        assert "sslpassword=Hunter3" in (pair.standby.tmpdir / "primary.service").read_text()
        assert stat.S_IMODE((pair.standby.tmpdir / "primary.service").stat().st_mode) == 0o600
    file = pair.standby.tmpdir / "primary.pass"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.owner() == pair.standby.data.owner()


@pytest.mark.parametrize("options", ["password=Hunter 2", "password='Hunter", "Hunter=2", "sslpassword='Hunter ' "])
def test_what_is_no_connection_string_is_not_repeated(agent: Agent, standby: Database, options: str) -> None:
    """libpq would say which part of it does not fit; so would the server, in its log."""
    assert agent.stop().code == 0
    answer = agent.start(primary_conninfo_opt=options)
    assert answer.code == 1, answer
    assert "primary_conninfo_opt" in answer.reason
    for text in (answer.err, agent.logged(), standby.log.read_text()):
        assert "Hunter" not in text


def test_a_secret_beside_a_service_of_the_administrators_own(agent: Agent, standby: Database) -> None:
    assert agent.stop().code == 0
    answer = agent.start(primary_conninfo_opt="service=mine sslpassword=Hunter3")
    assert answer.code == 1, answer
    assert "sslpassword" in answer.reason
    assert "Hunter" not in answer.reason + agent.logged() + standby.log.read_text()


def test_a_server_that_cannot_know_the_secret_is_to_be_restarted(agent: Agent, standby: Database) -> None:
    agent.parameters["primary_conninfo_opt"] = "sslpassword=Hunter3"
    assert agent.run("reload-agent").code == 0
    assert "restart the server" in agent.logged()
    assert agent.stop().code == 0
    before = agent.logged()
    assert agent.start().code == 0
    assert agent.run("reload-agent").code == 0
    assert "restart the server" not in agent.logged().removeprefix(before)
    assert "Hunter" not in standby.log.read_text() + agent.logged()
