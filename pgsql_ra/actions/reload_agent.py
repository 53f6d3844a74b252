# SPDX-License-Identifier: GPL-2.0-or-later
"""reload-agent: parameters that changed take effect without a restart.

Most of the reloadable ones are read anew by every action. Those that the server has in its recovery settings are
written again, and the server reads them again (primary_conninfo and primary_slot_name from PostgreSQL 13 on,
restore_command from 14 on; an older server takes them at its next start, which the log says).
"""

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.observe import open_owner_session
from pgsql_ra.actions.standby import write_recovery_settings
from pgsql_ra.actions.validate_all import require_valid_parameters
from pgsql_ra.ocf import Exit, ServerFailure
from pgsql_ra.postgres.process import postmaster

PENDING = "SELECT string_agg(name, ', ') FROM pg_settings WHERE pending_restart"


def reload_agent(context: Context) -> Exit:
    """SUCCESS when the server was told. InvalidParameter for wrong values, ServerFailure if no server runs."""
    require_valid_parameters(context)
    if postmaster(context.pgdata) is None:
        raise ServerFailure(f"no server runs in {context.pgdata}: there is nothing to reload")
    if context.parameters.rep_mode == "none":
        return Exit.SUCCESS
    write_recovery_settings(context, context.files.link())
    context.server.reload()
    with open_owner_session(context, context.deadline) as session:
        row = session.execute(PENDING).fetchone()
    if row and row[0]:
        context.log.warning(f"the server takes {row[0]} at its next start only")
    return Exit.SUCCESS
