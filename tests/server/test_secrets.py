# SPDX-License-Identifier: GPL-2.0-or-later
"""A password for the standbys' connection to the primary."""

import stat

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.stand_in import StandInCluster
from tests.server.test_following import Following
from tests.server.test_notify import told

SECRET = r"Hunter 2:\'x"


def test_a_password_in_primary_conninfo_opt_stays_out_of_the_log(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
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
    agent.parameters |= {"repuser": "rep", "primary_conninfo_opt": f"password='{quoted}' keepalives_idle=7"}
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
    for text in (conninfo, pair.standby.log.read_text(), agent.logged()):
        assert "Hunter" not in text
    file = pair.standby.tmpdir / "primary.pass"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.owner() == pair.standby.data.owner()
