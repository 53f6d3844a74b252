# SPDX-License-Identifier: GPL-2.0-or-later
"""Look around in a lab by hand: python -m tests.lab --help."""

import os
import sys
from pathlib import Path

import click

from tests.lab.crm import STATEFUL_AGENT, Configuration
from tests.lab.lab import Lab
from tests.lab.layout import Layout, base_folder
from tests.lab.processes import CLEAN_ENVIRONMENT, Identity
from tests.lab.teardown import take_down
from tests.lab.waiting import LabError, WaitError

name_option = click.option("--name", default="lab", show_default=True, help="The lab.")


@click.group()
def main() -> None:
    """Real Pacemaker clusters with PostgreSQL on this machine."""


@main.command()
@name_option
@click.option("--nodes", default=3, show_default=True, help="How many.")
@click.option("--agent", type=click.Path(exists=True, path_type=Path), help="Where the installed agent is.")
@click.option("--rep-mode", default="sync", show_default=True)
@click.option("--auto-boot", is_flag=True, help="A fenced node boots again.")
def up(name: str, nodes: int, agent: Path | None, rep_mode: str, auto_boot: bool) -> None:
    """Start a lab that stays; without --agent with a stateful dummy instead of a database."""
    lab = Lab(name, nodes, agent=agent, rep_mode=rep_mode, auto_boot=auto_boot, database=agent is not None, keep=True)
    lab.up()
    lab.configure(None if agent else Configuration(agent=STATEFUL_AGENT))
    click.echo(str(lab.wait_healthy()))
    click.echo(f"Everything of it is in {lab.layout.root}; look around with `python -m tests.lab enter node1`.")


@main.command()
@click.argument("names", nargs=-1)
def down(names: tuple[str, ...]) -> None:
    """Remove labs, also what is left of a broken one; without NAMES all except those that a process is using."""
    for name in names or [path.name for path in base_folder().glob("*")]:
        owner = Identity.load(Layout.of(name).owner_file)
        if not names and owner is not None and owner.alive:
            click.echo(f"{name} is in use by process {owner.pid}")
            continue
        take_down(name, Layout.of(name).root)
        click.echo(f"{name} is down")


@main.command()
@name_option
def status(name: str) -> None:
    """Say what the cluster and the power supply say."""
    lab = Lab.attach(name)
    click.echo(str(lab.status()).replace(" | ", "\n"))
    for node in lab.nodes:
        click.echo(
            f"{node.name}: {'on' if node.is_on else 'off'}, {', '.join(sorted(node.addresses())) or 'no address'}"
        )
    for event in lab.events():
        click.echo(f"{event.pop('wall'):.1f} {event.pop('event')} {event}")


@main.command()
@name_option
@click.argument("node")
def enter(name: str, node: str) -> None:
    """Open a shell on NODE."""
    argv = [*Lab.attach(name).node(node).enter(), "bash"]
    os.execvpe(argv[0], argv, {**CLEAN_ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")})  # noqa: S606 the shell replaces this program on purpose


@main.command(context_settings={"ignore_unknown_options": True})
@name_option
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(name: str, node: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on NODE."""
    done = Lab.attach(name).node(node).run(command, check=False, timeout=600)
    click.echo(done.stdout, nl=False)
    click.echo(done.stderr, nl=False, err=True)
    sys.exit(done.returncode)


@main.command()
@name_option
@click.argument(
    "what", type=click.Choice(["boot", "power-cut", "cut-network", "restore-network", "stop-cluster", "crash-postgres"])
)
@click.argument("node")
def fault(name: str, what: str, node: str) -> None:
    """Do WHAT to NODE."""
    getattr(Lab.attach(name).node(node), what.replace("-", "_"))()


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except (LabError, WaitError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
