# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether somebody is there to be asked."""

import os
import pwd
import socket

import pytest

from pgsql_ra.postgres.upstream import PrimaryServer
from pgsql_ra.postgres.user import DatabaseUser

NOBODY = "192.0.2.1"
"""An address for documentation (RFC 5737): nowhere."""


@pytest.mark.parametrize(
    ("host", "options", "listening", "closed"),
    [
        pytest.param("127.0.0.1", "", True, False, id="an address"),
        pytest.param("localhost", "", True, False, id="a name"),
        pytest.param(NOBODY, "hostaddr=127.0.0.1", True, False, id="an address beside the name"),
        pytest.param(NOBODY, "", False, False, id="nowhere"),
        pytest.param("/run/postgresql", "", True, True, id="a socket"),
        pytest.param("127.0.0.1,127.0.0.2", "", True, True, id="two addresses"),
    ],
)
def test_listens(host: str, options: str, listening: bool, closed: bool) -> None:
    user = DatabaseUser(pwd.getpwuid(os.getuid()).pw_name)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        primary = PrimaryServer(host, listener.getsockname()[1], "replicator", options, user)
        assert primary.listens() is listening
    assert primary.listens() is closed
