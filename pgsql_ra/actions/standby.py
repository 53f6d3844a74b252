# SPDX-License-Identifier: GPL-2.0-or-later
"""Bringing the server up as a standby: for `start`, and for `demote`, which leaves one behind."""

import os
import re
from collections.abc import Callable

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.launch import check_options, configured, launch, start_sufficient
from pgsql_ra.actions.manual import LOCK_FILE
from pgsql_ra.actions.observe import observe_server
from pgsql_ra.actions.rejoin import finish_swap, job_file, settle_data
from pgsql_ra.ocf import NotInstalled, NotPermitted, ServerFailure
from pgsql_ra.parameters import slot_name
from pgsql_ra.postgres.auto_conf import AUTO_FILE, forget_conninfo
from pgsql_ra.postgres.configuration import (
    PASSWORD_FILE,
    RECOVERY_FILE,
    SERVICE,
    SERVICE_FILE,
    SYNCHRONOUS_FILE,
    password_line,
    primary_conninfo,
    recovery_settings,
    synchronous_settings,
    synchronous_value,
    with_conninfo,
    write_standby_signal,
)
from pgsql_ra.postgres.control import read_control
from pgsql_ra.postgres.label import has_label, set_label_aside, stale_label
from pgsql_ra.postgres.places import prepare_log, prepare_socket_directory, prepare_statistics_directory
from pgsql_ra.postgres.process import postmaster, remove_stale_pid_file
from pgsql_ra.postgres.reading import files_in
from pgsql_ra.postgres.wal import read_major
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.snapshot import Link, Standby, SynchronousStandbys
from pgsql_ra.replication.synchronous import first_setting
from pgsql_ra.replication.upstream import Content

TARGET_PRIMARY_VERSION = 14
STATISTICS_IN_MEMORY_VERSION = 15
RELOADABLE_CONNINFO_VERSION = 13
VERSION = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})*")
OLDEST_VERSION = 12
"""The first PostgreSQL whose standbys are made by standby.signal and ordinary settings."""


def bring_up_standby(context: Context) -> None:
    """Start the server as a standby of whoever is or becomes the primary. Nothing is written before all is checked.

    NotSafe if its data may not follow the primary that runs; ServerFailure with the server's own words if it does not
    come up; NotInstalled and NotPermitted for what is missing on this node.
    """
    check_membership(context)
    check_options(context)
    finish_swap(context)
    link = check_may_follow(context)
    major = check_data_directory(context)
    if postmaster(context.pgdata) is None:
        launch_standby(context, major, link)
    elif not isinstance(observe_server(context, context.deadline), Standby):
        raise ServerFailure(f"somebody else has started a server in {context.pgdata} meanwhile")


def launch_standby(context: Context, major: int, link: Link = Link.OPEN) -> None:
    """Start the server as a standby, its data being found to fit."""
    check_options(context)
    write_configuration(context, link if major >= RELOADABLE_CONNINFO_VERSION else Link.OPEN)
    check_synchronous_names(context)
    write_standby_signal(context.pgdata, context.user)
    start_server(context, major, lambda: launch(context, major))


def bring_up_single(context: Context) -> None:
    """Start the server as it is (rep_mode none): a single instance, whose configuration the agent leaves alone."""
    major = check_data_directory(context)
    if not os.path.isfile(context.parameters.config):
        raise NotInstalled(f"there is no configuration file {context.parameters.config} (parameter config)")
    set_stale_label_aside(context, major)
    start_server(context, major, lambda: context.server.start(context.deadline, {}))


def set_stale_label_aside(context: Context, major: int) -> None:
    """A label that a crash during a backup left on shared storage must not keep the server down (postgres.label)."""
    if not has_label(context.pgdata):
        return
    control = read_control(context.pgdata, context.programs, context.deadline)
    if because := stale_label(context.pgdata, major, control):
        set_label_aside(context.pgdata, because, context.user_files, context.log)


def bring_up_outside_standby(context: Context) -> None:
    """Start the server as a standby of a primary outside of this cluster (rep_mode slave): nobody promotes it here, and
    how far it recovers is the administrator's business.
    """
    major = check_data_directory(context)
    write_recovery_settings(context)
    context.files.include(RECOVERY_FILE)
    write_standby_signal(context.pgdata, context.user)
    start_server(context, major, lambda: start_sufficient(context, {}))


def start_server(context: Context, major: int, start: Callable[[], None]) -> None:
    """Make the places that the server needs, and `start` it."""
    given, files = context.parameters, context.user_files
    prepare_log(given.logfile, files)
    if given.socketdir:
        prepare_socket_directory(given.socketdir, files)
    if major < STATISTICS_IN_MEMORY_VERSION:
        directory = os.path.join(given.pgdata, configured(context, "stats_temp_directory"))
        prepare_statistics_directory(directory, files)
    remove_stale_pid_file(given.pgdata, given.pgdba, files, context.log)
    start()


def check_membership(context: Context) -> None:
    """A node that is not in node_list holds a copy that no primary keeps records of."""
    if context.node.lower() not in context.parameters.node_list:
        raise NotInstalled(
            f"{context.node} is not in node_list ({' '.join(context.parameters.node_list)}): add it, or keep the"
            " resource off this node with a location rule"
        )


def check_data_directory(context: Context) -> int:
    """The data directory is there, it is one, it is the database user's, and of a version this agent knows.

    Returns PostgreSQL's major version.
    """
    pgdata, user = context.pgdata, context.user
    if not os.path.isdir(pgdata):
        raise NotInstalled(f"there is no data directory {pgdata} on this node (parameter pgdata)")
    try:
        version = files_in(pgdata).text(os.path.join(pgdata, "PG_VERSION")).strip()
    except FileNotFoundError:
        advice = "move it away, and `pgsql-ra rejoin` copies the primary" if context.replicates else "check pgdata"
        raise NotInstalled(f"{pgdata} is not a data directory (it has no PG_VERSION): {advice}") from None
    except OSError as error:
        raise NotInstalled(f"cannot read PG_VERSION in {pgdata}: {error.strerror}") from error
    if not VERSION.fullmatch(version):
        raise NotInstalled(f"{pgdata} is not a data directory: its PG_VERSION names no version")
    major = version.partition(".")[0]
    if int(major) < OLDEST_VERSION:
        raise NotInstalled(
            f"{pgdata} belongs to PostgreSQL {version}; this agent runs version {OLDEST_VERSION} and later"
        )
    details = os.stat(pgdata)
    if details.st_uid != user.uid:
        raise NotPermitted(f"the data directory {pgdata} does not belong to {user.name}: chown -R {user.name} {pgdata}")
    if details.st_mode & 0o027:
        raise NotPermitted(
            f"the data directory {pgdata} has mode {details.st_mode & 0o777:04o}, and PostgreSQL wants 0700 or 0750:"
            f" chmod 0700 {pgdata}"
        )
    return int(major)


def check_may_follow(context: Context) -> Link:
    """The rule for former primaries (replication.rejoin), and what the parameter rejoin allows to be done by it.

    Returns whether it may receive WAL at once: not before its own was compared with the primary's (actions.same).
    """
    verdict = settle_data(context)
    link = Link.OPEN if verdict.content in (Content.SAME, Content.GONE) else Link.CUT
    note_unproven(context, verdict.content)
    receives = "" if link is Link.OPEN else "; it receives WAL when its own was compared with the primary's"
    context.log.info(f"the server starts as a standby: {verdict.because}{receives}")
    remove_shell_agent_lock(context, verdict.because)
    return link


def note_unproven(context: Context, content: Content) -> None:
    """Whether the data were a primary's and were not compared since: once the server runs, nothing else says so."""
    file = job_file(context)
    known = file.read().unproven
    unproven = content is not Content.SAME and (
        known or read_control(context.pgdata, context.programs, context.deadline).was_primary
    )
    if unproven != known:
        context.files.prepare_directory()
        file.update(unproven=unproven)


def remove_shell_agent_lock(context: Context, because: str) -> None:
    """ocf:heartbeat:pgsql leaves a lock on every primary, since it cannot tell whether the data fits. It was told
    here.
    """
    lock = context.files.path(LOCK_FILE)
    if context.files.exists(LOCK_FILE):
        context.files.remove(LOCK_FILE)
        context.log.info(f"{lock}, which ocf:heartbeat:pgsql left, is removed: {because}")


def write_configuration(context: Context, link: Link) -> None:
    """The agent's two files and the lines that include them, and nothing that would outrank them."""
    if forget_conninfo(context.pgdata, context.user_files):
        context.log.info(f"primary_conninfo is taken out of {AUTO_FILE}: it would outrank the agent's")
    write_recovery_settings(context, link)
    context.files.write(SYNCHRONOUS_FILE, synchronous_settings(_first_setting(context)))
    context.files.include(RECOVERY_FILE, SYNCHRONOUS_FILE)


def only_from_primary(major: int, options: str) -> str:
    """Connection options that make a standby follow a server that takes writes, and nothing else.

    A demoted primary still has the virtual IP for a moment. Without this it would stream from itself, and hold on to
    that connection for wal_receiver_timeout after the address has gone; another standby would follow it into a dead
    end.
    """
    if "target_session_attrs" in options:
        return options
    # libpq knows "primary" from version 14 on; "read-write" asks the same of older ones.
    return f"target_session_attrs={'primary' if major >= TARGET_PRIMARY_VERSION else 'read-write'} {options}".strip()


def without_secrets(context: Context, options: str) -> str:
    """The options with files in place of what is secret in them. ServerFailure if they are no connection string."""
    if not options:
        return without_service(context, options)
    from psycopg.conninfo import make_conninfo

    from pgsql_ra.postgres.conninfo import parse_options, secret_keywords, service_file

    given = parse_options(options)
    secrets = {name: value for name in sorted(secret_keywords()) if (value := given.pop(name, ""))}
    if not secrets:
        return without_service(context, options)
    context.files.prepare_directory()
    if password := secrets.pop("password", ""):
        context.files.write(PASSWORD_FILE, password_line(password))
        given["passfile"] = context.files.path(PASSWORD_FILE)
    if secrets:
        if "service" in given:
            raise ServerFailure(
                f"put {', '.join(secrets)} of primary_conninfo_opt into the service file that its service is in: the"
                " server logs its settings"
            )
        context.files.write(SERVICE_FILE, service_file(SERVICE, secrets))
        given["service"] = SERVICE
        warn_without_service(context)
    else:
        without_service(context, options)
    return make_conninfo("", **given)


def without_service(context: Context, options: str) -> str:
    """The options as they are; a service file from an earlier time says nothing any more."""
    if os.path.exists(context.files.path(SERVICE_FILE)):
        context.files.write(SERVICE_FILE, "")
    return options


def warn_without_service(context: Context) -> None:
    """A server that runs already was told of the service file at its start, or does not find it."""
    pid = postmaster(context.pgdata)
    if pid is None:
        return
    told = os.fsencode(f"PGSERVICEFILE={context.files.path(SERVICE_FILE)}")
    with open(f"/proc/{pid}/environ", "rb") as file:
        if told not in file.read().split(b"\0"):
            context.log.warning(
                "restart the server on this node: it was started before primary_conninfo_opt had a secret besides the"
                " password, and cannot connect to the primary with it"
            )


def conninfo_of_primary(context: Context) -> str:
    """How this node's standby reaches the primary."""
    given = context.parameters
    options = without_secrets(context, given.primary_conninfo_opt)
    if context.replicates:
        options = only_from_primary(read_major(context.pgdata), options)
    return primary_conninfo(given.master_ip, given.pgport, given.repuser, context.node.lower(), options)


def write_recovery_settings(context: Context, link: Link = Link.OPEN) -> None:
    """The file that tells a standby where its primary is, unless its link is cut."""
    given, files = context.parameters, context.files
    recovery = recovery_settings(
        {
            "primary_conninfo": conninfo_of_primary(context),
            "restore_command": given.restore_command,
            "recovery_target_timeline": "latest",
            "archive_cleanup_command": given.archive_cleanup_command,
            "recovery_end_command": given.recovery_end_command,
            "primary_slot_name": slot_name(given.replication_slot_name, context.node)
            if given.replication_slot_name
            else "",
        }
    )
    files.prepare_directory()
    files.write(RECOVERY_FILE, with_conninfo(recovery, "") if link is Link.CUT else recovery)


def check_synchronous_names(context: Context) -> None:
    """Nothing else may set synchronous_standby_names: the agent could not switch it off.

    The server's own program reads its whole configuration for that, ALTER SYSTEM's part too, so what cannot be read is
    found here as well.
    """
    names = configured(context, "synchronous_standby_names")
    if names != synchronous_value(_first_setting(context)):
        raise NotInstalled(
            f"remove synchronous_standby_names from {context.parameters.config} or postgresql.auto.conf (ALTER SYSTEM):"
            f" it is {names!r} there, and the agent writes it into {context.files.path(SYNCHRONOUS_FILE)}"
        )


def _first_setting(context: Context) -> SynchronousStandbys:
    """A server that starts waits for nobody (or, if it is strict, for anybody): whoever it becomes the primary of has
    to prove itself first.
    """
    policy = context.policy
    if policy.mode is Mode.ASYNC:
        return SynchronousStandbys()
    return first_setting(policy.peers, policy.synchronous_count, policy.degrading)
