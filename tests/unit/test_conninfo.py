# SPDX-License-Identifier: GPL-2.0-or-later
"""What is secret in a connection string, and what libpq is not let say about it."""

import pytest

from pgsql_ra.ocf import ServerFailure
from pgsql_ra.postgres.conninfo import SECRETS, parse_options, secret_keywords, service_file


def test_libpq_is_asked_for_secrets_too() -> None:
    assert secret_keywords() >= {*SECRETS}
    assert "host" not in secret_keywords()


def test_values_are_read_as_libpq_does() -> None:
    assert parse_options(r"a='x y' b=c".replace("a=", "sslkey=").replace("b=", "sslmode=")) == {
        "sslkey": "x y",
        "sslmode": "c",
    }


@pytest.mark.parametrize("options", ["password=Hunter 2", "password='Hunter", "Hunter=2"])
def test_nothing_of_what_cannot_be_read_is_repeated(options: str) -> None:
    with pytest.raises(ServerFailure) as raised:
        parse_options(options)
    assert "Hunter" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_a_service_file() -> None:
    assert service_file("here", {"sslpassword": "a=b 'c"}) == "[here]\nsslpassword=a=b 'c\n"
    for value in (" a", "a ", "a\nb"):
        with pytest.raises(ServerFailure, match="sslpassword"):
            service_file("here", {"sslpassword": value})
