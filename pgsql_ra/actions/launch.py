# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting the server of a standby with the settings that a standby needs, whatever its own configuration says."""

import shlex
from collections.abc import Mapping

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import FAILURES, NotInstalled, ServerFailure, reason_of
from pgsql_ra.postgres.control import read_control
from pgsql_ra.postgres.recovery import (
    as_options,
    contrary_option,
    remove_recovery_signal,
    settings_of_standby,
)
from pgsql_ra.postgres.server import last_words
from pgsql_ra.postgres.wal import read_major


def check_options(context: Context) -> None:
    """The administrator's own options do not say how the server recovers. NotInstalled if they do."""
    given = context.parameters
    if setting := contrary_option(given.start_opt, given.ctl_opt):
        raise NotInstalled(
            f"remove {setting} from start_opt and ctl_opt: a standby of this cluster replays everything, and is"
            " promoted by Pacemaker only"
        )


def launch(context: Context, major: int) -> None:
    """The server runs as a standby that replays all that it receives, until it is promoted."""
    remove_recovery_signal(context.pgdata, context.user_files, context.log)
    start_sufficient(context, settings_of_standby(major))


def start_sufficient(context: Context, settings: Mapping[str, str]) -> None:
    """Start it with these settings, and as large as its WAL demands.

    A standby does not start with a smaller max_connections, say, than its primary had (RecoveryRequiresIntParameter in
    src/backend/access/transam/xlogrecovery.c). If it was made smaller everywhere at a time, no node could start, and
    none would ever be promoted.
    """
    try:
        context.server.start(context.deadline, settings)
    except ServerFailure as failure:
        try:
            lacking = _lacking(context)
        except FAILURES as error:
            context.log.debug(f"whether its settings are too low could not be found out: {reason_of(error)}")
            raise failure from None
        if not lacking:
            raise
        context.log.warning(
            f"started with {', '.join(f'{name}={value}' for name, value in lacking.items())}, because the primary's WAL"
            f" demands it: raise what is lower in {context.parameters.config} (to lower it everywhere, see"
            " docs/operating.md)"
        )
        context.server.start(context.deadline, {**settings, **lacking})


def _lacking(context: Context) -> dict[str, str]:
    """The settings that the server would have lower than its WAL demands, as that was replayed so far, with what it
    demands.
    """
    demands = read_control(context.pgdata, context.programs, context.deadline).demands
    return {name: str(value) for name, value in demands if _is_lower(configured(context, name), value)}


def _is_lower(setting: str, demanded: int) -> bool:
    return setting.isascii() and setting.isdigit() and int(setting) < demanded


def configured(context: Context, setting: str) -> str:
    """A setting as the server would have it. ServerFailure if the configuration cannot be read."""
    given = context.parameters
    options = ["-D", context.pgdata, "-c", f"config_file={given.config}", *shlex.split(given.start_opt)]
    if context.replicates:
        # Several recovery targets in its files would exclude each other, and do not count.
        options += as_options(settings_of_standby(read_major(context.pgdata)))
    done = context.programs.run("postgres", [*options, "-C", setting], context.deadline)
    if done.returncode != 0:
        raise ServerFailure(f"the server cannot read its configuration: {last_words(done.stderr)}")
    return done.stdout.strip()
