# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of a repair: rewind the data or put a new copy in their place, and say meanwhile how far that is.

The order is the safety argument. Nothing of the data is touched before everything that can be known to fail was tried:
the primary answers, pg_rewind's dry run ends well, a copy is complete and on disk. Before the first byte is changed in
place, that is noted durably, and nothing starts from the directory until the note is gone.
"""

import os
import signal
import time

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.gone_to import forget_how_far
from pgsql_ra.actions.observe import open_owner_session
from pgsql_ra.actions.rejoin import job_file, known_system, primary_server, show
from pgsql_ra.actions.same import streaming_server
from pgsql_ra.ocf import FAILURES, Deadline, NotSafe, ServerFailure, reason_of
from pgsql_ra.pacemaker.cib import read_cluster
from pgsql_ra.parameters import slot_name
from pgsql_ra.postgres.base_copy import carry_out, discard, make_copy, plan_swaps, prune
from pgsql_ra.postgres.configuration import RECOVERY_FILE
from pgsql_ra.postgres.control import ClusterPhase, read_control
from pgsql_ra.postgres.job import Cancelled
from pgsql_ra.postgres.own_files import put_own_files, save_own_files
from pgsql_ra.postgres.process import postmaster, server_processes
from pgsql_ra.postgres.process import stop as stop_server
from pgsql_ra.postgres.rewind import (
    CannotRewind,
    count_commits,
    first_needed,
    keep_all_wal,
    keep_segments,
    last_common,
    recover,
    rewind,
)
from pgsql_ra.postgres.same_wal import LocalWal, compare
from pgsql_ra.postgres.session import FINAL_WORDS
from pgsql_ra.postgres.upstream import PrimaryServer
from pgsql_ra.postgres.vacancy import is_vacant
from pgsql_ra.postgres.wal import newest_timeline, read_history, read_major
from pgsql_ra.replication.lsn import History, Position
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.rejoin import Copy, LostWal, Rejoin, Rewind
from pgsql_ra.replication.upstream import Content, Upstream, why_not_primary

PRIMARY_SECONDS = 300.0
"""How long the job waits for a primary that does not answer."""
SHOW_SECONDS = 5.0
"""How often the node attribute is written while the percentage changes."""
ALONE_SECONDS = 60.0
"""After so long without Pacemaker on this node the job ends: nobody would stop it any more."""
COUNT_SECONDS = 60.0
RELOAD_SECONDS = 5.0
LAUNCH_SECONDS = 0.5
"""How long a server that was just started may take to show that it serves this directory."""
OWN_FILES = "rejoin.files"
CLEAN = (ClusterPhase.SHUT_DOWN, ClusterPhase.SHUT_DOWN_IN_RECOVERY)


class Repair:
    """One repair."""

    def __init__(self, context: Context, lock: int, policy: Rejoin) -> None:
        self.context = context
        self.file = job_file(context)
        self.lock = lock
        self.policy = policy
        self.upstream = Upstream("", History(0))
        self.phase = ""
        self.said = -100
        self.shown_at = 0.0
        self.seen_pacemaker = time.monotonic()
        self.in_place = False

    def carry_out(self, verdict: Rewind | Copy) -> None:
        """The data can be followed; a server that ran before runs again, as a standby."""
        ran = bool(server_processes(self.context.pgdata))
        self.say("waiting for the primary")
        primary = self.await_primary()
        if isinstance(verdict, Rewind):
            self.tell_lost(verdict.lost)
            try:
                self.rewind(primary)
            except CannotRewind as error:
                if ran:
                    self.bring_up_meanwhile()
                if not self.policy.may_copy:
                    raise NotSafe(f"pg_rewind cannot help ({error}); {verdict.because}") from error
                verdict = Copy(f"{error}; {verdict.because}")
        if isinstance(verdict, Copy):
            self.copy(verdict, primary)
        if ran:
            self.bring_up_if_wanted()

    def await_primary(self) -> PrimaryServer:
        """The cluster's primary answers, and nobody else in its place. (Its address moves to it a moment after its
        promotion.)

        Asked again immediately before anything is taken from it.
        """
        primary = primary_server(self.context)
        limit = Deadline(PRIMARY_SECONDS)
        while True:
            try:
                found = self.identify(primary, limit)
            except Cancelled:
                raise
            except FAILURES as error:
                if limit.remaining() <= 0 or any(words in reason_of(error) for words in FINAL_WORDS):
                    raise
                self.file.update(phase=f"waiting for the primary ({reason_of(error)})")
                limit.pause(reason_of(error), 0.1)
            else:
                own = known_system(self.context)
                if own and found.system != own:
                    raise NotSafe(
                        f"the server at {self.context.parameters.master_ip} has another database than this node"
                        f" (system identifiers {found.system} and {own}): check pgdata and master_ip"
                    )
                self.upstream = found
                return primary

    def identify(self, primary: PrimaryServer, limit: Deadline) -> Upstream:
        """What the server at the primary's address says of itself. ServerFailure if it is not the cluster's primary."""
        cluster = read_cluster(self.context.resource, limit)
        names = other_primaries(cluster, self.context.node.lower())
        state = cluster.node(names[0]) if len(names) == 1 else None
        if state is None:
            raise ServerFailure(f"there is not one primary to take anything from ({', '.join(names) or 'none'})")
        found = primary.identify(limit)
        if because := why_not_primary(found, state):
            raise ServerFailure(because)
        return found

    def check_source(self, pgdata: str) -> None:
        """What was taken came from the primary that was asked before: of its database, and on its timeline."""
        control = read_control(pgdata, self.context.programs, self.context.deadline)
        timeline = control.minimum_recovery_timeline or control.timeline
        if (control.system, timeline) != (self.upstream.system, self.upstream.history.timeline):
            raise ServerFailure(
                f"what answered at {self.upstream.address} was not the primary: system identifier {control.system},"
                f" timeline {timeline}, and not {self.upstream.system}, {self.upstream.history.timeline}"
            )

    def rewind(self, primary: PrimaryServer) -> None:
        """The data directory is the primary's as of where they parted; own files are as they were."""
        context, given = self.context, self.context.parameters
        self.say("waiting for the primary's checkpoint")
        primary.checkpoint(given.pgdb, self.context.deadline.within(PRIMARY_SECONDS * 2))
        major, saved, files = read_major(context.pgdata), context.files.path(OWN_FILES), context.user_files
        self.keep_wal(major)
        self.stop()
        control = read_control(context.pgdata, context.programs, context.deadline)
        if control.phase not in CLEAN:
            self.say("recovering from the crash")
            recover(context.pgdata, given.config, major, context.programs, files, self.lock, context.deadline)
        service = primary.write_service(given.tmpdir, given.pgdb)
        if files.exists(saved):
            files.remove_tree(saved)

        def run_rewind(dry_run: bool) -> str:
            return rewind(
                context.pgdata,
                given.config,
                bool(given.restore_command),
                major,
                context.programs,
                service,
                self.lock,
                self.progress,
                context.deadline,
                dry_run,
            )

        self.say("looking what to rewind")
        said = run_rewind(dry_run=True)
        self.check_wal(primary, first_needed(context.pgdata, said, context.programs, context.deadline))
        self.await_primary()
        self.check_common(last_common(said))
        save_own_files(files, context.pgdata, saved)
        broken_off = f"pg_rewind was broken off in {context.pgdata}, which needs a new copy"
        self.file.update(broken_off=broken_off, in_place=True)
        self.in_place = True
        self.say("rewinding")
        # From here on giving up means a new copy: a request to end waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            run_rewind(dry_run=False)
            self.check_source(context.pgdata)
            put_own_files(files, saved, context.pgdata)
            self.file.update(broken_off="", in_place=False, unproven=False)
            forget_how_far(context)
            files.remove_tree(saved)
        finally:
            self.in_place = False
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def check_wal(self, primary: PrimaryServer, begin: Position | None) -> None:
        """The primary has the WAL that the rewound server will need first. CannotRewind if not: it would never start.

        pg_rewind does not look at that. An archive may have what the primary has not.
        """
        if begin is None or self.context.parameters.restore_command:
            return
        if lacks := primary.identify(self.context.deadline.within(PRIMARY_SECONDS), begin).lacks:
            raise CannotRewind(f"the primary does not have the WAL since the two parted any more: {lacks}")

    def check_common(self, common: Position | None) -> None:
        """The checkpoint from which pg_rewind goes on is the primary's too. CannotRewind if not, or if nobody can tell.

        pg_rewind goes by timelines: it takes all that lies before the fork for common, whatever this copy wrote there.
        """
        context, limit = self.context, self.context.deadline.within(PRIMARY_SECONDS)
        local = LocalWal(context.pgdata, context.user)
        history = read_history(context.pgdata, newest_timeline(context.pgdata, common.timeline)) if common else None
        trace = local.at(common.lsn, history) if common and history else None
        found = Content.UNKNOWN
        if trace and history:
            trace = local.with_lead(trace, history)
            found = compare(streaming_server(context), self.upstream, trace, local, limit)
        if found is not Content.SAME:
            raise CannotRewind(f"the last checkpoint before the fork is not known to be the primary's ({found.value})")

    def copy(self, verdict: Copy, primary: PrimaryServer) -> None:
        """A new copy is in the place of the data directory, which is set aside if there is anything in it."""
        context, given = self.context, self.context.parameters
        context.log.warning(f"a new copy of the primary is made: {verdict.because}")
        self.tell_lost(verdict.lost)
        swaps = plan_swaps(context.pgdata, context.user_files)
        was_vacant = is_vacant(context.pgdata)
        service = primary.write_service(given.tmpdir, "replication")
        slot = slot_name(given.replication_slot_name, context.node) if given.replication_slot_name else ""
        self.say("copying")
        self.await_primary()
        make_copy(
            context.pgdata,
            swaps,
            slot,
            context.programs,
            context.user_files,
            service,
            self.lock,
            self.progress,
            context.deadline,
        )
        try:
            self.check_source(swaps[-1].new)
        except BaseException:
            discard(context.user_files, swaps)
            raise
        if was_vacant and not is_vacant(context.pgdata):
            discard(context.user_files, swaps)
            raise NotSafe(f"somebody has put something into {context.pgdata} while the copy was made")
        self.stop()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self.file.update(
                swaps=tuple((swap.current, swap.new, swap.old) for swap in swaps),
                broken_off=f"a new copy of {context.pgdata} is being put in place",
            )
            carry_out(context.user_files, swaps)
            self.file.update(swaps=(), broken_off="", unproven=False)
            forget_how_far(context)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        kept = f"the old data are in {swaps[-1].old}" if os.path.exists(swaps[-1].old) else "there were no old data"
        context.log.info(f"the new copy is in place, {kept}")
        pruned = prune(context.user_files, context.pgdata, given.keep_old_data, swaps[-1].old)
        for deleted in pruned.deleted:
            context.log.info(f"{deleted} is deleted: keep_old_data={given.keep_old_data}")
        for left in pruned.left:
            context.log.warning(f"{left}; keep_old_data={given.keep_old_data}: remove it by hand")

    def keep_wal(self, major: int) -> None:
        """A server that runs removes no WAL when it stops. (What says so is written anew at its next start.)"""
        context = self.context
        pid = postmaster(context.pgdata)
        if pid is None:
            return
        context.files.change(RECOVERY_FILE, lambda settings: f"{settings}{keep_all_wal(major)}\n")
        context.server.reload()
        limit = context.deadline.within(RELOAD_SECONDS)
        while limit.remaining() > 0:
            with open_owner_session(context, limit) as session:
                row = session.execute("SELECT setting FROM pg_settings WHERE name LIKE 'wal_keep_s%'").fetchone()
            if row and row[0] == "2147483647":
                return
            limit.pause("the server to keep its WAL", 0.02)

    def stop(self) -> None:
        """The server is down, and the monitor knows why."""
        context = self.context
        if server_processes(context.pgdata):
            self.file.update(holds_server=True, downtimes=self.file.read().downtimes + 1)
            stop_server(context.pgdata, float(context.parameters.stop_escalate), context.deadline, context.log)

    def bring_up(self) -> None:
        """The server runs as a standby again."""
        from pgsql_ra.actions.standby import launch_standby

        self.say("starting the server")
        try:
            launch_standby(self.context, read_major(self.context.pgdata))
        except Cancelled:
            # Whoever ends this job believes afterwards that nothing starts here any more.
            time.sleep(LAUNCH_SECONDS)
            stop_server(self.context.pgdata, 1.0, self.context.deadline, self.context.log)
            raise
        self.file.update(holds_server=False)

    def bring_up_if_wanted(self) -> None:
        """The server runs again, unless Pacemaker has stopped it meanwhile: then it is Pacemaker's to start."""
        if self.file.read().holds_server:
            self.bring_up()

    def bring_up_meanwhile(self) -> None:
        """The server answers again if it can: what keeps it from that is not why the repair fails."""
        try:
            self.bring_up_if_wanted()
        except Cancelled:
            raise
        except FAILURES as error:
            self.context.log.error(f"the server does not start after the attempt to rewind it: {reason_of(error)}")

    def tell_lost(self, lost: LostWal | None) -> None:
        """Say what the primary never had, and keep it if that is wanted."""
        context = self.context
        if lost is None:
            return
        commits: int | None = None
        try:
            commits = count_commits(context.pgdata, lost, context.programs, context.deadline.within(COUNT_SECONDS))
        except FAILURES as error:
            context.log.info(
                f"the transactions in the WAL that is thrown away could not be counted: {reason_of(error)}"
            )
        number = "an unknown number of" if commits is None else str(commits)
        context.log.warning(f"thrown away: {lost}, {number} transactions that the primary does not have")
        if context.parameters.keep_lost_wal:
            place = context.files.path(f"lost-wal-{lost.timeline}-{lost.begin.padded()}")
            keep_segments(context.user_files, context.pgdata, lost, place)
            context.log.warning(f"the segments with the WAL that is thrown away are kept in {place}")

    def say(self, phase: str) -> None:
        """A new phase: in the state file, the log and the node attribute."""
        self.phase, self.said, self.shown_at = phase, -100, time.monotonic()
        self.file.update(phase=phase, percent=None)
        self.context.log.info(f"repair of the data directory: {phase}")
        self.show(phase)

    def progress(self, percent: int | None) -> None:
        """The phase is so far; attribute and log follow in larger steps."""
        now = time.monotonic()
        if now - self.shown_at < SHOW_SECONDS:
            if percent is not None:
                self.file.update(percent=percent)
            return
        self.shown_at = now
        state = self.file.update(percent=percent) if percent is not None else self.file.read()
        self.show(str(state))
        if not self.in_place:
            self.look_for_pacemaker()
        if state.percent is not None and state.percent >= self.said + 10:
            self.said = state.percent
            self.context.log.info(f"repair of the data directory: {state}")

    def show(self, value: str) -> None:
        """The node attribute has this value, and Pacemaker was seen, if it took that."""
        show(self.context, value)
        if self.file.read().shown == value:
            self.seen_pacemaker = time.monotonic()

    def look_for_pacemaker(self) -> None:
        """Cancelled if Pacemaker has not been seen on this node for long."""
        if time.monotonic() - self.seen_pacemaker > ALONE_SECONDS:
            raise Cancelled("Pacemaker does not run on this node any more")
