# SPDX-License-Identifier: GPL-2.0-or-later
"""The shell agent ocf:heartbeat:pgsql of this machine, made to run: for moving a live cluster away from it."""

from pathlib import Path

INSTALLED = Path("/usr/lib/ocf/resource.d/heartbeat/pgsql")
PROVIDER = "shell"
AGENT = f"ocf:{PROVIDER}:pgsql"


def runnable_copy(folder: Path) -> Path:
    """A directory with a copy that starts with Pacemaker 2.1.5.

    resource-agents 4.12 calls crm_attribute in a way that Pacemaker before 2.1.6 misreads for the word -INFINITY; the
    number it stands for is understood.
    """
    text = INSTALLED.read_text()
    broken = 'CAN_NOT_PROMOTE="-INFINITY"'
    assert broken in text, f"{INSTALLED} is not the version that this was written for"
    folder.mkdir(parents=True, exist_ok=True)
    agent = folder / "pgsql"
    agent.write_text(text.replace(broken, 'CAN_NOT_PROMOTE="-1000000"'))
    agent.chmod(0o755)
    return folder
