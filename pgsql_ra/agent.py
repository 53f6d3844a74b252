# SPDX-License-Identifier: GPL-2.0-or-later
"""The way in for Pacemaker: an action and an environment become an exit code.

What each action does with an error is one table here, not a habit of the modules: Pacemaker's reaction to a code
depends on the action (a 6 from one standby's probe stops the whole clone, a failed stop fences the node).
"""

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pgsql_ra.ocf import AgentError, Exit, InvalidParameter, Log, of_system, say_exit_reason

if TYPE_CHECKING:
    from pgsql_ra.actions.context import Context

ACTIONS = (
    "start",
    "stop",
    "monitor",
    "promote",
    "demote",
    "notify",
    "reload-agent",
    "status",
    "validate-all",
    "meta-data",
    "methods",
    "usage",
)

# CONFIGURED (6) stops every instance on every node, the healthy primary too: only these may say it, and only before
# anything runs. For everything else a wrong parameter is a failure of this one action.
MAY_BE_FATAL = ("start", "validate-all")


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Run one action: `argv[1]`; what follows it is ignored. Returns the exit code."""
    action = argv[1] if len(argv) > 1 else ""
    if action == "meta-data":
        return print_metadata()
    if action in ("usage", "help", "methods"):
        return print_text("\n".join(ACTIONS) if action == "methods" else usage())
    if action not in ACTIONS:
        print(usage(), file=sys.stderr)
        return Exit.UNIMPLEMENTED if action else Exit.ARGS
    # Files that the agent makes are the server's, and hold passwords.
    os.umask(0o077)
    return run(action, environ)


def run(action: str, environ: Mapping[str, str]) -> int:
    """Run an action that needs its parameters, and turn what it raises into an exit code and a reason."""
    from pgsql_ra.actions.context import Context

    context = Context(action, environ)
    log = context.log
    begin_trace(action, environ, log)
    try:
        answer = find(action)(context)
        log.debug(f"{action}: exit code {int(answer)}")
        return answer
    except AgentError as error:
        log.error(f"{action}: {error}")
        say_exit_reason(environ, str(error))
        if isinstance(error, InvalidParameter) and action not in MAY_BE_FATAL:
            return Exit.GENERIC
        return error.exit_code
    except OSError as error:
        # A full disk, a directory that is not there: where nothing better is known to say, what the system says.
        log.error(f"{action}: {traceback.format_exc()}")
        say_exit_reason(environ, of_system(error))
        return Exit.GENERIC
    except Exception as error:  # noqa: BLE001 - the last line of defence: a traceback is no answer for Pacemaker
        log.error(f"{action}: unexpected: {traceback.format_exc()}")
        say_exit_reason(environ, f"unexpected {type(error).__name__}: {error}; please report it as a BUG")
        return Exit.GENERIC


def begin_trace(action: str, environ: Mapping[str, str], log: Log) -> None:
    """Trace the action if that is wanted; a trace that cannot be written does not keep the action from being done."""
    from pgsql_ra.trace import is_wanted, open_trace

    if not is_wanted(environ):
        return
    try:
        log.trace_to(open_trace(action, environ))
    except OSError as error:
        log.warning(f"the trace cannot be written: {error}")


def find(action: str) -> "Callable[[Context], Exit]":
    """The function of an action; only its module is imported."""
    match action:
        case "start":
            from pgsql_ra.actions.start import start

            return start
        case "stop":
            from pgsql_ra.actions.stop import stop

            return stop
        case "monitor":
            from pgsql_ra.actions.monitor import monitor

            return monitor
        case "status":
            from pgsql_ra.actions.monitor import status

            return status
        case "promote":
            from pgsql_ra.actions.promote import promote

            return promote
        case "demote":
            from pgsql_ra.actions.demote import demote

            return demote
        case "notify":
            from pgsql_ra.actions.notify import notify

            return notify
        case "reload-agent":
            from pgsql_ra.actions.reload_agent import reload_agent

            return reload_agent
        case _:
            from pgsql_ra.actions.validate_all import validate_all

            return validate_all


def print_metadata() -> int:
    """Print the XML that was made from the parameters when the agent was built: no library, no environment."""
    with open(os.path.join(os.path.dirname(__file__), "pgsql.xml"), "rb") as file:
        sys.stdout.buffer.write(file.read())
    return Exit.SUCCESS


def usage() -> str:
    """One line for whoever calls the agent by hand."""
    return f"usage: pgsql {{{'|'.join(ACTIONS)}}}   (parameters: OCF_RESKEY_* in the environment; see meta-data)"


def print_text(text: str) -> int:
    """Print what was asked for."""
    print(text)
    return Exit.SUCCESS
