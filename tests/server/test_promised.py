# SPDX-License-Identifier: GPL-2.0-or-later
"""A promotion is a success only if the server went on from where its record says that it would."""

from pathlib import Path

from pgsql_ra.replication.lsn import Lsn
from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import BINARIES, Database
from tests.server.stand_in import StandInCluster
from tests.server.test_following import DELAY, Following

SEGMENT = 1 << 20

LOSES_WAL = """#!/bin/sh
case "$*" in
*" promote"*)
    {bin}/pg_ctl -D {data} -m immediate -w stop
    for file in {data}/pg_wal/0*; do
        if [ "${{file##*/}}" \\> {keep} ]; then rm "$file"; fi
    done
    {bin}/pg_ctl -D {data} -l {log} -o "-p {port}" -w start
    ;;
esac
exec {bin}/pg_ctl "$@"
"""
"""A pg_ctl under which the WAL that was not replayed yet is gone when the server is promoted."""


def losing_programs(folder: Path, database: Database, last: Lsn) -> Path:
    """PostgreSQL's programs, with this pg_ctl among them; WAL up to the segment with `last` stays."""
    folder.mkdir()
    for program in BINARIES.iterdir():
        (folder / program.name).symlink_to(program)
    control = folder / "pg_ctl"
    control.unlink()
    keep = f"00000001{last >> 32:08X}{(last & 0xFFFFFFFF) // SEGMENT:08X}"
    text = LOSES_WAL.format(bin=BINARIES, data=database.data, log=database.log, port=database.port, keep=keep)
    control.write_text(text)
    control.chmod(0o755)
    return control


def test_a_promotion_without_what_was_promised_is_no_success(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    pair = Following(agent, cluster, make_database, DELAY)
    # Replay waits before the first commit, not within a transaction.
    before = pair.send()
    pair.source.sql("CREATE TABLE big AS SELECT generate_series(1, 50000) AS n")
    promised = Lsn.parse(pair.source.sql("SELECT pg_current_wal_flush_lsn()::text"))
    received = "SELECT pg_last_wal_receive_lsn()::text"
    eventually("all is received", lambda: Lsn.parse(pair.standby.sql(received)) >= promised, within=10)
    pair.lose_primary()
    agent.parameters["pgctl"] = str(losing_programs(agent.database.root / "programs", pair.standby, before))
    answer = agent.promote()
    assert answer.code == 1, answer
    fork = (pair.standby.data / "pg_wal" / "00000002.history").read_text().split()[1]
    assert Lsn.parse(fork) < promised
    for words in ("promotion 1 went wrong", f"left timeline 1 at {fork}", f"WAL to {promised} was promised"):
        assert words in answer.err, answer
    assert not pair.standby.is_running()
    again = agent.start()
    assert again.code == 1, again
    assert "promotion 1 went wrong" in again.reason
    assert not pair.standby.is_running()
