# SPDX-License-Identifier: GPL-2.0-or-later
"""validate-all: are the parameters right, and with OCF_CHECK_LEVEL=10, can this node run the resource?

It changes nothing. crmsh and pcs call it without a cluster and without an instance name.
"""

import os

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import Exit, InvalidParameter, NotInstalled, NotPermitted

NODE_LEVEL = 10


def validate_all(context: Context) -> Exit:
    """SUCCESS, or the first error: InvalidParameter, or at level 10 NotInstalled or NotPermitted."""
    require_valid_parameters(context)
    try:
        level = int(context.environ.get("OCF_CHECK_LEVEL", "0"))
    except ValueError:
        level = 0
    if level >= NODE_LEVEL:
        check_node(context)
    return Exit.SUCCESS


def require_valid_parameters(context: Context) -> None:
    """InvalidParameter with one sentence for every wrong value."""
    problems = context.parameters.problems
    if problems:
        raise InvalidParameter(" ".join(problem.sentence for problem in problems))
    promotable = ("promotable", "promoted_max", "master_max")
    told = [context.environ.get(f"OCF_RESKEY_CRM_meta_{name}", "") for name in promotable]
    by_cluster = context.environ.get("OCF_RESKEY_CRM_meta_on_node") and context.action == "start"
    if context.replicates and by_cluster and not any(word not in ("", "0", "false") for word in told):
        raise InvalidParameter(
            f"rep_mode is {context.parameters.rep_mode}, but the resource is not a promotable clone, so nothing would"
            " ever be promoted: make it one (crm: clone ... meta promotable=true notify=true; pcs: promotable ..."
            " notify=true)"
        )


def check_node(context: Context) -> None:
    """What this node needs to run the resource: programs, user, files."""
    given = context.parameters
    programs = context.programs  # raises NotInstalled for the user and for pg_ctl
    for name in ("postgres", "pg_controldata", "pg_waldump"):
        programs.path(name)
    if not os.path.isfile(given.config):
        raise NotInstalled(f"there is no configuration file {given.config} (parameter config)")
    from pgsql_ra.actions.launch import check_options
    from pgsql_ra.actions.standby import check_data_directory

    if context.replicates:
        check_options(context)
    check_data_directory(context)
    parent = given.tmpdir
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    if not os.access(parent, os.W_OK):
        raise NotPermitted(f"{parent} cannot be written, which tmpdir={given.tmpdir} needs")
