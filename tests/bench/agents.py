# SPDX-License-Identifier: GPL-2.0-or-later
"""The agents that are compared."""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.lab.layout import PROJECT
from tests.lab.machine import RESOURCE_AGENTS
from tests.lab.preparation import provider_directory
from tests.lab.waiting import LabError

INSTALLED_AGENT = Path(os.environ.get("PGSQL_RA_AGENT", PROJECT / ".build" / "ocf"))
"""Where `make` installs the agent inside the checkout."""

SHELL_AGENT = RESOURCE_AGENTS / "heartbeat" / "pgsql"
REFUSED = 'CAN_NOT_PROMOTE="-INFINITY"'
TAKEN = 'CAN_NOT_PROMOTE="-1000000"'
"""The same score for Pacemaker, but no text that crm_attribute takes for an option."""


@dataclass(frozen=True)
class Agent:
    """A resource agent and the directory that a lab shows its nodes as the agent's provider."""

    label: str
    provider: str
    directory: Path
    note: str = ""

    @property
    def name(self) -> str:
        """The agent's name in the cluster's configuration."""
        return f"ocf:{self.provider}:pgsql"


def our_agent() -> Agent:
    """The installed agent of this project."""
    return Agent("ours", "pgsql-ra", provider_directory(INSTALLED_AGENT))


def shell_agent(directory: Path) -> Agent:
    """The shell agent of this machine, copied into an empty directory and made to start where it cannot by itself."""
    try:
        text = SHELL_AGENT.read_text()
    except FileNotFoundError as error:
        raise LabError(f"there is no {SHELL_AGENT}: apt-get install resource-agents, or --skip-shell-agent") from error
    note = "the shell agent is this machine's, unchanged"
    if REFUSED in text:
        note = (
            f"the shell agent is a patched copy made for this run, {REFUSED} replaced by {TAKEN}: as packaged it does"
            " not start in replication mode with a crm_attribute that refuses `-p -v -INFINITY`"
        )
    directory.chmod(0o755)
    copy = directory / "pgsql"
    copy.write_text(text.replace(REFUSED, TAKEN))
    copy.chmod(0o755)
    return Agent("shell agent", "shell-agent", directory, note)
