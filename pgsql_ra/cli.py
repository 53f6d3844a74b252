# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `pgsql-ra` for people: what the cluster knows of a resource, and the agent's actions by hand."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from pgsql_ra import __version__
from pgsql_ra.agent import ACTIONS
from pgsql_ra.agent import main as run_action
from pgsql_ra.ocf import FAILURES, Deadline, reason_of

if TYPE_CHECKING:
    from pgsql_ra.postgres.job import JobState

QUERY_SECONDS = 10.0
REJOIN_SECONDS = 60.0
"""For finding out what is to be done; the work itself takes as long as it takes."""


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong within this context is told in one line. (That nobody reads on any more is no news.)"""
    try:
        yield
    except BrokenPipeError:
        raise
    except FAILURES as error:
        raise click.ClickException(reason_of(error)) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pgsql-ra")
def main() -> None:
    """The PostgreSQL resource agent for Pacemaker."""


@main.command()
@click.argument("resource", default="pgsql")
def show(resource: str) -> None:
    """What the cluster knows of RESOURCE (the primitive's name), a line for each node.

    It reads the same attributes as the agent: who is the primary, what is recorded of every copy of the data, and who
    could be promoted.
    """
    from pgsql_ra.actions.by_hand import primitive
    from pgsql_ra.pacemaker.cib import read_cluster

    deadline = Deadline(QUERY_SECONDS)
    with told():
        primitive(resource, deadline)
        cluster = read_cluster(resource, deadline)
    click.echo(f"quorum: {'yes' if cluster.quorum else 'NO'}   fencing: {'on' if cluster.fencing else 'OFF'}")
    heads = ("node", "membership", "role", "status", "data-status", "score", "timeline", "election")
    rows = [
        (
            node.name,
            node.membership.value,
            node.role.value,
            node.status,
            node.data_status,
            node.score,
            str(node.record or ""),
            node.election,
        )
        for node in cluster.nodes
    ]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@main.command()
@click.argument("resource", default="pgsql")
def why(resource: str) -> None:
    """Why nobody is promoted: for each copy what is recorded of it, where its WAL ends, and the reason.

    With a primary in place: what is recorded of each copy, and its promotion score.
    """
    from pgsql_ra.actions import allow
    from pgsql_ra.actions.by_hand import context_of
    from pgsql_ra.replication.reasons import ADVICE

    with told():
        snapshot = allow.look(context_of(resource, QUERY_SECONDS))
        running = allow.primaries(snapshot)
        if running:
            click.echo(f"{', '.join(running)} is the primary")
        if not snapshot.cluster.may_decide:
            click.echo("this partition has NO QUORUM: nobody is promoted in it")
        for name, reason in allow.explain(snapshot):
            click.echo(f"{name}: {reason}")
        if not running:
            click.echo(ADVICE)


@main.command()
@click.argument("node")
@click.argument("resource", default="pgsql")
@click.option("--yes", is_flag=True, help="Do not ask.")
def allow(node: str, resource: str, yes: bool) -> None:
    """Say that NODE may be promoted although the better copies are gone for ever.

    What the others had and NODE does not may have been acknowledged. A copy that comes back keeps it, and does not
    join, until `pgsql-ra rejoin` gives it up there. Without a primary, each node's reason not to be one is shown first.
    """
    from pgsql_ra.actions import allow as override
    from pgsql_ra.actions.by_hand import context_of

    with told():
        context = context_of(resource, QUERY_SECONDS)
        for name, reason in override.explain(override.look(context)):
            click.echo(f"{name}: {reason}")
        if not yes:
            click.confirm(f"Promote {node}, and lose what only others have?", abort=True)
        override.allow(context, node)
        click.echo(f"{node} may be promoted now; Pacemaker does it as soon as its server runs")


@main.command()
@click.argument("resource", default="pgsql")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--cancel", is_flag=True, help="End a repair that is under way on this node.")
def rejoin(resource: str, dry_run: bool, yes: bool, cancel: bool) -> None:
    """Bring the data of this node back behind the primary, whatever the parameter rejoin of RESOURCE says.

    It shows what was found: whether the data fit, and if not, how much WAL and how many transactions the primary does
    not have. Then pg_rewind is run, or where that is impossible a new copy made; the old data are set aside.
    """
    from pgsql_ra.actions import by_hand
    from pgsql_ra.replication.rejoin import Copy, Rejoin, Rewind

    with told():
        context = by_hand.context_of(resource, REJOIN_SECONDS)
        if cancel:
            click.echo("ended" if by_hand.cancel(context) else "no repair is under way")
            return
        verdict = by_hand.find_out(context, Rejoin.ASKED)
        click.echo("\n".join(by_hand.explain(context, verdict)))
        if dry_run or not isinstance(verdict, Rewind | Copy):
            return
        if not yes:
            click.confirm("Do it?", abort=True)
        with click.progressbar(length=100, label="repair", item_show_func=lambda phase: phase) as bar:

            def tell(job: "JobState") -> None:
                bar.update(max(0, (job.percent or 0) - bar.pos), job.phase)

            by_hand.repair_in_foreground(context, verdict, tell)
        click.echo("done: Pacemaker starts the server here, or it runs already")


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("action", type=click.Choice(ACTIONS))
@click.pass_context
def action(context: click.Context, action: str) -> None:
    """Run one OCF action by hand, with the parameters in the environment (OCF_RESKEY_*); exits with its code."""
    context.exit(run_action(["pgsql", action], os.environ))
