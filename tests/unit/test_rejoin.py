# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a data directory may follow the primary that runs now."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.rejoin import (
    AwaitPrimary,
    ChangedBlocks,
    Copy,
    Follow,
    LocalData,
    LostWal,
    Refuse,
    Rejoin,
    Rewind,
    Vacancy,
    decide_rejoin,
    parting,
)
from pgsql_ra.replication.snapshot import ClusterState, Membership, NodeState
from pgsql_ra.replication.upstream import Content, Upstream
from tests.unit.builders import ALPHA, BETA, GAMMA, a_cluster, a_history, a_node, at, the_primary_node
from tests.unit.strategies import copies
from tests.unit.wal import RECORD_BYTES, Wal, is_prefix, position_of

PARAMETER = tuple(policy for policy in Rejoin if policy is not Rejoin.ASKED)
"""What the parameter may say."""


FORMER = LocalData(was_primary=True, end=at(0x100))
NO_RECORD = a_node(BETA, role=the_primary_node().role)


@pytest.mark.parametrize(
    ("local", "primary"),
    [
        pytest.param(FORMER, the_primary_node(BETA, 2), id="a former primary that ends at the fork"),
        pytest.param(LocalData(True, at(0x80)), the_primary_node(BETA, 2), id="a former primary that ends before"),
        pytest.param(LocalData(True, at(0x80)), the_primary_node(BETA, 3), id="two promotions later"),
        pytest.param(LocalData(False), the_primary_node(BETA, 2), id="a standby whose end is not known"),
        pytest.param(LocalData(False, at(0x80)), the_primary_node(BETA, 1), id="a standby on the same timeline"),
        pytest.param(LocalData(False, at(0x100)), the_primary_node(BETA, 2), id="a standby that ends at the fork"),
        pytest.param(LocalData(False, at(0x900)), NO_RECORD, id="a standby, and no record of the primary"),
        pytest.param(FORMER, a_node(BETA), id="no primary"),
        pytest.param(LocalData(True), a_node(BETA), id="no primary, and the end is not known"),
        pytest.param(
            LocalData(True, at(0x900)),
            a_node(BETA, Membership.UNCLEAN, role=the_primary_node().role),
            id="a lost primary: the election decides",
        ),
    ],
)
def test_it_follows(local: LocalData, primary: NodeState) -> None:
    verdict = decide_rejoin(ALPHA, local, a_cluster(a_node(ALPHA), primary))
    assert isinstance(verdict, Follow), verdict.because


@pytest.mark.parametrize(
    ("local", "primary", "words"),
    [
        pytest.param(LocalData(True, at(0x110)), the_primary_node(BETA, 2), "16 bytes", id="past the fork"),
        pytest.param(
            LocalData(True, at(0x80)), the_primary_node(BETA, 1), "same timeline 1", id="the primary did not branch off"
        ),
        pytest.param(
            LocalData(True, at(0x80, 2)),
            the_primary_node(BETA, 1),
            "never was",
            id="a timeline the primary never was on",
        ),
        pytest.param(
            LocalData(True, Position(Lsn(0x180), History(2, ((1, Lsn(0x40)),)))),
            the_primary_node(BETA, 2),
            "same timeline 2",
            id="two promotions to the same number",
        ),
        pytest.param(LocalData(True), the_primary_node(BETA, 2), "end of its WAL", id="the end is not known"),
        pytest.param(FORMER, NO_RECORD, "not recorded", id="the primary has no record"),
        pytest.param(LocalData(False, at(0x110)), the_primary_node(BETA, 2), "16 bytes", id="a standby past the fork"),
    ],
)
def test_it_is_refused(local: LocalData, primary: NodeState, words: str) -> None:
    verdict = decide_rejoin(ALPHA, local, a_cluster(a_node(ALPHA), primary))
    assert isinstance(verdict, Refuse), verdict.because
    assert words in verdict.because


def test_two_primaries_are_nothing_to_choose_from() -> None:
    cluster = a_cluster(a_node(ALPHA), the_primary_node(BETA, 2), the_primary_node(GAMMA, 2))
    verdict = decide_rejoin(ALPHA, LocalData(False), cluster)
    assert isinstance(verdict, Refuse)
    assert BETA in verdict.because
    assert GAMMA in verdict.because


def test_a_refusal_says_what_to_do() -> None:
    verdict = decide_rejoin(ALPHA, LocalData(True), a_cluster(the_primary_node(BETA, 2)))
    assert "pgsql-ra rejoin" in verdict.because
    assert "parameter rejoin" in verdict.because


def test_this_nodes_own_record_is_not_another_primary() -> None:
    """It may still be shown as promoted while its own server starts again."""
    verdict = decide_rejoin("Alpha", LocalData(True, at(0x80)), a_cluster(the_primary_node(ALPHA)))
    assert isinstance(verdict, Follow)


@given(copies())
def test_no_wal_of_a_former_primary_is_thrown_away(pair: tuple[Wal, Wal]) -> None:
    own, primary = pair
    node = NodeState(BETA, Membership.MEMBER, role=the_primary_node().role, record=position_of(primary).history)
    verdict = decide_rejoin(ALPHA, LocalData(True, position_of(own)), a_cluster(a_node(ALPHA), node))
    if isinstance(verdict, Follow):
        assert is_prefix(own, primary)


SYSTEM = "7711444395985399001"
LOGGED, NOT_LOGGED = ChangedBlocks.LOGGED, ChangedBlocks.NOT_LOGGED
TOO_FAR = LocalData(was_primary=True, end=at(0x110), system=SYSTEM, changed_blocks=LOGGED)
NO_HINTS = replace(TOO_FAR, changed_blocks=NOT_LOGGED)
FITS = LocalData(was_primary=False, end=at(0x80), system=SYSTEM, changed_blocks=LOGGED)
ON_SAME = replace(TOO_FAR, end=at(0x180, 2))
UNPROVEN = replace(FITS, unproven=True)
BROKEN_OFF = replace(FITS, broken_off="pg_rewind was broken off")
THE_PRIMARY = Upstream(SYSTEM, a_history(2))
LACKS = replace(THE_PRIMARY, lacks="requested WAL segment has already been removed")
STRANGER = replace(THE_PRIMARY, system="1")
FORMER_PRIMARY = Upstream(SYSTEM, a_history(1))
SAME = replace(THE_PRIMARY, content=Content.SAME)
DIFFERENT = replace(THE_PRIMARY, content=Content.DIFFERENT)
GONE = replace(THE_PRIMARY, content=Content.GONE)


@pytest.mark.parametrize(
    ("local", "upstream", "safe", "rewind", "copy", "words"),
    [
        pytest.param(FITS, THE_PRIMARY, Follow, Follow, Follow, "", id="it fits"),
        pytest.param(TOO_FAR, THE_PRIMARY, Refuse, Rewind, Rewind, "16 bytes of WAL", id="too far"),
        pytest.param(TOO_FAR, None, Refuse, Rewind, Rewind, "16 bytes of WAL", id="too far, by the record alone"),
        pytest.param(NO_HINTS, THE_PRIMARY, Refuse, Refuse, Copy, "16 bytes of WAL", id="changes are not logged"),
        pytest.param(ON_SAME, THE_PRIMARY, Refuse, Refuse, Copy, "same timeline 2", id="two on one timeline"),
        pytest.param(LocalData(True, None), THE_PRIMARY, Refuse, Rewind, Rewind, "end of its WAL", id="no end"),
        pytest.param(FITS, LACKS, Refuse, Refuse, Copy, "already been removed", id="its WAL is gone"),
        pytest.param(BROKEN_OFF, THE_PRIMARY, Refuse, Refuse, Copy, "broken off", id="work was broken off"),
        pytest.param(FITS, DIFFERENT, Refuse, Refuse, Copy, "of their own", id="other WAL under the same numbers"),
        pytest.param(FORMER, DIFFERENT, Refuse, Refuse, Copy, "of their own", id="other WAL of a former primary"),
        pytest.param(ON_SAME, DIFFERENT, Refuse, Refuse, Copy, "of their own", id="other WAL of one on one timeline"),
        pytest.param(ON_SAME, SAME, Follow, Follow, Follow, "goes on from there", id="two on one timeline that agree"),
        pytest.param(TOO_FAR, SAME, Refuse, Rewind, Rewind, "16 bytes", id="too far, and the same before"),
        pytest.param(FORMER, SAME, Follow, Follow, Follow, "goes on from there", id="a former primary that agrees"),
        pytest.param(FORMER, GONE, Refuse, Refuse, Copy, "no WAL any more", id="a former primary's end is gone"),
        pytest.param(UNPROVEN, GONE, Refuse, Refuse, Copy, "no WAL any more", id="and it was started meanwhile"),
        pytest.param(FITS, GONE, Follow, Follow, Follow, "it was a standby", id="a standby's end is gone"),
        pytest.param(TOO_FAR, STRANGER, Refuse, Refuse, Refuse, "another database", id="another database"),
        pytest.param(FITS, STRANGER, Refuse, Refuse, Refuse, "another database", id="another database that fits"),
    ],
)
def test_the_policy_decides(
    local: LocalData, upstream: Upstream | None, safe: type, rewind: type, copy: type, words: str
) -> None:
    cluster = a_cluster(a_node(ALPHA), the_primary_node(BETA, 2))
    verdicts = {policy: decide_rejoin(ALPHA, local, cluster, policy, upstream) for policy in PARAMETER}
    assert type(verdicts[Rejoin.SAFE]) is safe
    assert type(verdicts[Rejoin.MANUAL]) is safe
    assert type(verdicts[Rejoin.REWIND]) is rewind
    assert type(verdicts[Rejoin.COPY]) is copy
    assert all(words in verdict.because for verdict in verdicts.values())
    refusals = [verdict.because for verdict in verdicts.values() if isinstance(verdict, Refuse)]
    # Of an exit reason, Pacemaker shows the first 127 bytes.
    advice = "the agent does not replace them" if upstream is STRANGER else "run `pgsql-ra rejoin` here"
    assert all(because.startswith(advice) or because.endswith(advice) for because in refusals)


EMPTY = LocalData(False, vacancy=Vacancy("/data is empty"))
DAMAGED = LocalData(False, system=SYSTEM, vacancy=Vacancy("its control file is damaged", holds_data=True))
OF_NOBODY = replace(DAMAGED, system="")
HINDERED = LocalData(False, vacancy=Vacancy("/data is empty", hindrance="the filesystem of /data is not mounted"))


@pytest.mark.parametrize(
    ("local", "upstream", "copy", "words"),
    [
        pytest.param(EMPTY, THE_PRIMARY, Copy, "/data is empty", id="no data"),
        pytest.param(EMPTY, None, Copy, "/data is empty", id="no data, and the primary was not asked"),
        pytest.param(EMPTY, STRANGER, Copy, "/data is empty", id="no data: any primary's will do"),
        pytest.param(DAMAGED, THE_PRIMARY, Copy, "control file is damaged", id="damaged"),
        pytest.param(DAMAGED, STRANGER, Refuse, "another database", id="another database's, damaged"),
        pytest.param(OF_NOBODY, THE_PRIMARY, Refuse, "whose data they were", id="damaged, and nothing says whose"),
        pytest.param(HINDERED, THE_PRIMARY, Refuse, "empty, and the filesystem of /data is not", id="hindered"),
        pytest.param(
            replace(EMPTY, lock="PGSQL.lock", broken_off="half way"),
            THE_PRIMARY,
            Copy,
            "is empty",
            id="empty comes first",
        ),
    ],
)
def test_without_data_only_a_copy_helps(local: LocalData, upstream: Upstream | None, copy: type, words: str) -> None:
    cluster = a_cluster(a_node(ALPHA), the_primary_node(BETA, 2))
    verdicts = {policy: decide_rejoin(ALPHA, local, cluster, policy, upstream) for policy in PARAMETER}
    assert type(verdicts.pop(Rejoin.COPY)) is copy
    assert {type(verdict) for verdict in verdicts.values()} == {Refuse}
    assert all(words in verdict.because for verdict in verdicts.values())


def test_a_node_without_data_is_told_what_to_do() -> None:
    refusal = decide_rejoin(ALPHA, EMPTY, a_cluster(a_node(ALPHA), the_primary_node(BETA)))
    assert refusal.because.startswith("copy beta with `pgsql-ra rejoin`, or set the parameter rejoin to copy: ")


@pytest.mark.parametrize(
    ("local", "copy"),
    [(EMPTY, AwaitPrimary), (DAMAGED, AwaitPrimary), (BROKEN_OFF, AwaitPrimary), (OF_NOBODY, Refuse)],
)
def test_without_a_primary_there_is_nothing_to_copy_yet(local: LocalData, copy: type) -> None:
    cluster = a_cluster(a_node(ALPHA), a_node(BETA))
    verdicts = {policy: decide_rejoin(ALPHA, local, cluster, policy) for policy in PARAMETER}
    assert type(verdicts[Rejoin.COPY]) is copy
    assert all("no primary to copy" in verdict.because for verdict in verdicts.values())
    del verdicts[Rejoin.COPY]
    assert {type(verdict) for verdict in verdicts.values()} == {Refuse}
    assert all(verdict.because.endswith("start another node first") for verdict in verdicts.values())


def test_what_is_not_mounted_is_not_waited_for() -> None:
    assert isinstance(decide_rejoin(ALPHA, HINDERED, a_cluster(a_node(BETA)), Rejoin.COPY), Refuse)


def test_of_two_primaries_none_is_copied() -> None:
    cluster = a_cluster(a_node(ALPHA), the_primary_node(BETA, 2), the_primary_node(GAMMA, 2))
    assert isinstance(decide_rejoin(ALPHA, EMPTY, cluster, Rejoin.COPY), Refuse)


def test_a_refused_rewind_names_its_reason_first() -> None:
    cluster = a_cluster(a_node(ALPHA), the_primary_node(BETA, 2))
    refusal = decide_rejoin(ALPHA, NO_HINTS, cluster, Rejoin.REWIND, THE_PRIMARY)
    assert "wal_log_hints" in refusal.because[:127]


def test_what_is_thrown_away_is_named() -> None:
    cluster = a_cluster(a_node(ALPHA), the_primary_node(BETA, 2))
    verdict = decide_rejoin(ALPHA, TOO_FAR, cluster, Rejoin.REWIND, THE_PRIMARY)
    assert isinstance(verdict, Rewind)
    assert verdict.lost == LostWal(1, Lsn(0x100), Lsn(0x110))
    assert "16 bytes" in str(verdict.lost)


BETAS_PROMOTION = Promotion(7, BETA, at(0x180, 2))
RESTARTED = replace(the_primary_node(BETA, 2), promotion=BETAS_PROMOTION)


@pytest.mark.parametrize(
    ("primary", "answers", "words"),
    [
        pytest.param(the_primary_node(BETA, 2), FORMER_PRIMARY, "it is on timeline 1:,", id="an older timeline"),
        pytest.param(the_primary_node(BETA, 1), THE_PRIMARY, "it is on timeline 2:", id="a longer history"),
        pytest.param(
            the_primary_node(BETA, 2),
            Upstream(SYSTEM, History(2, ((1, Lsn(0x80)),))),
            "beta recorded 2:1@0/100",
            id="another promotion to the same number",
        ),
        pytest.param(
            RESTARTED,
            replace(THE_PRIMARY, flushed=Lsn(0x170)),
            "its WAL ends at 0/170",
            id="the timeline does not tell, and its WAL ends too early",
        ),
        pytest.param(NO_RECORD, THE_PRIMARY, "has not recorded yet", id="no record to compare with"),
    ],
)
@pytest.mark.parametrize("local", [FORMER, TOO_FAR, LocalData(True), FITS, ON_SAME, BROKEN_OFF])
def test_nothing_is_taken_from_whoever_answers(
    local: LocalData, primary: NodeState, answers: Upstream, words: str
) -> None:
    """By the primary's record alone it may follow; what would be overwritten waits, and says for whom."""
    cluster = a_cluster(a_node(ALPHA), primary)
    by_record = decide_rejoin(ALPHA, local, cluster, Rejoin.COPY)
    for content in Content:
        verdict = decide_rejoin(ALPHA, local, cluster, Rejoin.COPY, replace(answers, content=content, lacks="all"))
        if isinstance(by_record, Follow):
            assert verdict == by_record
        else:
            assert isinstance(verdict, AwaitPrimary)
            assert words in verdict.because


def test_an_empty_directory_is_not_filled_by_whoever_answers() -> None:
    cluster = a_cluster(a_node(ALPHA), the_primary_node(BETA, 2))
    verdict = decide_rejoin(ALPHA, LocalData(False, vacancy=Vacancy("empty")), cluster, Rejoin.COPY, FORMER_PRIMARY)
    assert isinstance(verdict, AwaitPrimary)
    assert "the server that answers at master_ip is not that of beta" in verdict.because


def test_the_promoted_server_itself_is_taken_for_it() -> None:
    cluster = a_cluster(a_node(ALPHA), RESTARTED)
    answers = replace(THE_PRIMARY, flushed=Lsn(0x180))
    assert isinstance(decide_rejoin(ALPHA, TOO_FAR, cluster, Rejoin.REWIND, answers), Rewind)


def test_only_what_was_compared_receives_at_once() -> None:
    cluster = a_cluster(a_node(ALPHA), the_primary_node(BETA, 2))
    for answers in (None, THE_PRIMARY, SAME):
        verdict = decide_rejoin(ALPHA, FITS, cluster, upstream=answers)
        assert isinstance(verdict, Follow)
        assert verdict.content is (answers.content if answers else Content.UNKNOWN)
    without = decide_rejoin(ALPHA, FITS, a_cluster(a_node(ALPHA), a_node(BETA)), upstream=SAME)
    assert isinstance(without, Follow)
    assert without.content is Content.UNKNOWN


def test_a_copy_that_differs_is_called_harmful() -> None:
    """Clients read there what the cluster never had: its monitor fails, unlike that of one whose WAL is gone."""
    cluster = a_cluster(a_node(ALPHA), the_primary_node(BETA, 2))
    contents = {
        answers: verdict.content
        for answers in (DIFFERENT, LACKS)
        if isinstance(verdict := decide_rejoin(ALPHA, FITS, cluster, upstream=answers), Refuse)
    }
    assert contents == {DIFFERENT: Content.DIFFERENT, LACKS: Content.UNKNOWN}


def test_the_record_of_an_absent_primary_says_what_will_come() -> None:
    absent = a_node(BETA, Membership.CLEAN, record=a_history(2))
    verdict = decide_rejoin(ALPHA, TOO_FAR, a_cluster(a_node(ALPHA), absent))
    assert isinstance(verdict, Follow)
    assert "16 bytes of WAL" in verdict.because
    assert "bytes" not in decide_rejoin(ALPHA, FORMER, a_cluster(a_node(ALPHA), absent)).because


def test_the_shell_agents_lock_counts_in_its_own_mode_only() -> None:
    cluster, locked = a_cluster(the_primary_node(BETA, 2)), replace(FORMER, lock="/var/lib/pgsql/tmp/PGSQL.lock")
    refusal = decide_rejoin(ALPHA, locked, cluster, Rejoin.MANUAL)
    assert isinstance(refusal, Refuse)
    assert locked.lock in refusal.because
    assert isinstance(decide_rejoin(ALPHA, FORMER, cluster, Rejoin.MANUAL), Follow)
    assert isinstance(decide_rejoin(ALPHA, locked, cluster, Rejoin.SAFE), Follow)


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        pytest.param(a_history(1), a_history(1), (1, None), id="the same"),
        pytest.param(a_history(1), a_history(2), (1, Lsn(0x100)), id="one is the other's past"),
        pytest.param(a_history(3), a_history(2), (2, Lsn(0x200)), id="and the other way round"),
        pytest.param(a_history(2), History(2, ((1, Lsn(0x80)),)), (1, Lsn(0x80)), id="one number, two promotions"),
        pytest.param(a_history(2), History(3, ((1, Lsn(0x80)),)), (1, Lsn(0x80)), id="two branches"),
        pytest.param(a_history(1), History(9, ((8, Lsn(1)),)), None, id="strangers"),
    ],
)
def test_parting(first: History, second: History, common: tuple[int, Lsn | None] | None) -> None:
    assert parting(first, second) == common
    assert parting(second, first) == common


@given(copies(), st.sampled_from(Rejoin), st.booleans(), st.sampled_from(ChangedBlocks))
def test_nothing_follows_past_the_fork_whatever_the_policy(
    pair: tuple[Wal, Wal], policy: Rejoin, asked: bool, changed_blocks: ChangedBlocks
) -> None:
    own, primary = pair
    history = position_of(primary).history
    node = NodeState(BETA, Membership.MEMBER, role=the_primary_node().role, record=history)
    local = LocalData(True, position_of(own), SYSTEM, changed_blocks)
    upstream = Upstream(SYSTEM, history) if asked else None
    verdict = decide_rejoin(ALPHA, local, a_cluster(a_node(ALPHA), node), policy, upstream)
    assert not isinstance(verdict, AwaitPrimary)
    if isinstance(verdict, Follow):
        assert is_prefix(own, primary)
    elif verdict.lost is not None:
        # A primary that has not left the timeline yet may hold less of it than its history can say.
        kept = min(verdict.lost.begin // RECORD_BYTES, len(primary))
        assert own[:kept] == primary[:kept], "nothing that both hold counts as lost"
        assert len(primary) <= kept or own[kept] != primary[kept], "all that the primary lacks counts as lost"
    if isinstance(verdict, Rewind):
        assert policy.may_rewind
        assert changed_blocks is not ChangedBlocks.NOT_LOGGED
    if isinstance(verdict, Copy):
        assert policy.may_copy


class TestAfterAnAdministratorsWord:
    """What such a promotion passed over may have been acknowledged: nobody but a person throws it away."""

    GONE_TOO_FAR = LocalData(True, at(0x180), changed_blocks=ChangedBlocks.LOGGED, followed=6)

    @staticmethod
    def cluster(promotion: Promotion) -> ClusterState:
        return a_cluster(a_node(ALPHA), replace(the_primary_node(BETA, 2), promotion=promotion))

    @pytest.mark.parametrize("forced", [7, 8])
    def test_nothing_is_taken_back_by_itself(self, forced: int) -> None:
        """Nor after another promotion by the rule (8), which carries the number along."""
        cluster = self.cluster(Promotion(8, BETA, at(0x100), forced=forced))
        for policy in PARAMETER:
            verdict = decide_rejoin(ALPHA, self.GONE_TOO_FAR, cluster, policy)
            assert isinstance(verdict, Refuse)
            assert policy is Rejoin.MANUAL or "acknowledged" in verdict.because
            assert verdict.lost is not None
        assert isinstance(decide_rejoin(ALPHA, self.GONE_TOO_FAR, cluster, Rejoin.ASKED), Rewind)

    def test_a_copy_that_has_followed_it_since_was_outvoted_by_nobody(self) -> None:
        cluster = self.cluster(Promotion(8, BETA, at(0x100), forced=6))
        assert isinstance(decide_rejoin(ALPHA, self.GONE_TOO_FAR, cluster, Rejoin.REWIND), Rewind)

    def test_one_that_goes_no_further_follows(self) -> None:
        local = replace(self.GONE_TOO_FAR, end=at(0x100))
        cluster = self.cluster(Promotion(8, BETA, at(0x100), forced=8))
        assert isinstance(decide_rejoin(ALPHA, local, cluster, Rejoin.SAFE), Follow)
