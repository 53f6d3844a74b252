# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings of roles and databases, and objects in a schema that others may write into: the agent's sessions are not
led astray by them, and the administrator's own query is.
"""

import pytest

from pgsql_ra.ocf import Deadline
from pgsql_ra.postgres.upstream import PrimaryServer
from pgsql_ra.postgres.user import DatabaseUser
from tests.server.agent import Agent
from tests.server.database import USER, Database
from tests.server.stand_in import StandInCluster

SETTINGS = {
    12: {
        "search_path": "public, pg_catalog",
        "default_transaction_read_only": "on",
        "default_transaction_isolation": "serializable",
        "default_transaction_deferrable": "on",
        "statement_timeout": "1",
        "lock_timeout": "1",
        "client_encoding": "LATIN1",
        "datestyle": "German",
        "standard_conforming_strings": "off",
        "bytea_output": "escape",
        "role": "trap",
    },
    14: {"idle_session_timeout": "1"},
    17: {"transaction_timeout": "1"},
}

TRAPS = """
CREATE ROLE trap;
GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC;
SET search_path = pg_catalog;
CREATE FUNCTION public.trap() RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'trapped'; END$$;
CREATE FUNCTION public.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT public.trap()::boolean';
CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE sql AS 'SELECT public.trap()';
CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE sql AS 'SELECT public.trap()';
CREATE FUNCTION public.pg_last_wal_replay_lsn() RETURNS pg_lsn LANGUAGE sql AS 'SELECT public.trap()::pg_lsn';
CREATE FUNCTION public.pg_has_role(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap()::boolean';
CREATE FUNCTION public.pg_logical_emit_message(boolean, text, text) RETURNS pg_lsn LANGUAGE sql
    AS 'SELECT public.trap()::pg_lsn';
CREATE FUNCTION public.is(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap()::boolean';
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.is);
CREATE VIEW public.pg_stat_activity AS SELECT public.trap() AS backend_type, 1 AS pid, ''::text AS wait_event;
CREATE VIEW public.pg_stat_replication AS SELECT public.trap() AS application_name;
"""


def set_traps(database: Database) -> None:
    """In the database that the agent uses (template1): settings of the database and of the agent's role, and objects
    that stand before the system's.
    """
    with database.connect("template1") as session:
        session.execute(TRAPS.encode())
        known = {
            name: value
            for since, many in SETTINGS.items()
            if session.info.server_version >= since * 10000
            for name, value in many.items()
        }
        for name, value in known.items():
            for whose in ("DATABASE template1", "ROLE postgres", "ROLE postgres IN DATABASE template1"):
                if name == "role" and whose.startswith("DATABASE"):
                    continue
                shown = value if name == "search_path" else f"'{value}'"
                session.execute(f"ALTER {whose} SET {name} = {shown}".encode())


def test_nothing_in_the_database_leads_the_agent_astray(
    agent: Agent, cluster: StandInCluster, primary: Database
) -> None:
    """All actions of a life; with a member that is wanted, so that files, slots and messages are written too."""
    cluster.join("n2")
    agent.parameters["replication_slot_name"] = "rep"
    set_traps(primary)
    assert agent.monitor(silent=False).code == 8
    assert primary.sql("SELECT slot_name FROM pg_replication_slots") == "rep_n2"
    assert agent.demote().code == 0
    assert agent.monitor(silent=False).code == 0
    assert agent.promote().code == 0
    assert agent.run("reload-agent").code == 0
    assert agent.stop().code == 0
    said = primary.log.read_text()
    assert "trapped" not in said
    assert "timeout" not in said
    assert "failed" not in agent.logged()


def test_the_primary_is_asked_in_the_same_way(primary: Database) -> None:
    """By another node: over the replication protocol, and before pg_rewind by SQL. What the administrator says in
    primary_conninfo_opt holds besides.
    """
    primary.sql("CREATE ROLE asker SUPERUSER LOGIN")
    for name in ("statement_timeout", "lock_timeout", "default_transaction_read_only"):
        primary.sql(f"ALTER ROLE asker SET {name} = 1")
    set_traps(primary)
    hba = primary.data / "pg_hba.conf"
    hba.write_text(f"local all,replication asker trust\n{hba.read_text()}")
    primary.sql("SELECT pg_reload_conf()")
    options = "options='-c statement_timeout=1 -c log_min_messages=debug1'"
    major = int((primary.data / "PG_VERSION").read_text())
    server = PrimaryServer(str(primary.socket), primary.port, "asker", options, DatabaseUser(USER), major)
    assert server.identify(Deadline(10)).history.timeline == 2
    server.checkpoint("template1", Deadline(10))
    assert primary.sql("SELECT timeline_id FROM pg_control_checkpoint()") == 2
    assert "DEBUG:" in primary.log.read_text()


@pytest.mark.parametrize("role", ["standby", "primary"])
def test_a_database_without_an_encoding(agent: Agent, database: Database, role: str) -> None:
    agent.become_primary()
    database.sql("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0")
    agent.parameters["pgdb"] = "plain"
    agent.parameters["monitor_sql"] = "SELECT 'ä'"
    assert agent.monitor(silent=False).code == 8
    if role == "standby":
        assert agent.demote().code == 0
        assert agent.monitor(silent=False).code == 0
    assert agent.probe().code == (8 if role == "primary" else 0)
    assert agent.stop().code == 0
    assert agent.start().code == 0


def test_the_administrators_query_has_the_roles_own_settings(agent: Agent, primary: Database) -> None:
    """It was written for them: it finds its table by the role's search_path."""
    with primary.connect("template1") as session:
        session.execute("CREATE SCHEMA app")
        session.execute("CREATE TABLE app.healthy AS SELECT 1 AS n")
        session.execute("ALTER ROLE postgres SET search_path = app")
    agent.parameters["monitor_sql"] = "SELECT n FROM healthy"
    assert agent.monitor(silent=False).code == 8
    agent.parameters["monitor_sql"] = "SELECT n FROM ill"
    answer = agent.monitor()
    assert (answer.code, "ill" in answer.reason) == (1, True), answer
