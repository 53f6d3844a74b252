# SPDX-License-Identifier: GPL-2.0-or-later
"""The mark beside a data directory that is being changed in place, and worthless if that is not brought to its end.

The state of the job says the same, but it stays with the machine, and the data may come to another one, or outlive a
state that was lost. So the mark lies with the data. Not in the directory: pg_rewind removes there what its source does
not have (decide_file_action in src/bin/pg_rewind/filemap.c). Anybody who may write there can remove it, or make it:
that spoils or blocks nothing but his own data.
"""

import os
from collections.abc import Callable

from pgsql_ra.ocf import AgentError, NotPermitted
from pgsql_ra.postgres.reading import files_in
from pgsql_ra.postgres.user_files import UserFiles

SUFFIX = ".pgsql-ra.broken-off"


class BrokenOffMark:
    """The mark of one data directory. `files` is asked for only when the mark is to be changed."""

    def __init__(self, pgdata: str, files: Callable[[], UserFiles]) -> None:
        self._pgdata = pgdata
        self._files = files

    @property
    def path(self) -> str:
        """Where it lies: where the data directory lies, whatever links lead there."""
        return os.path.realpath(self._pgdata) + SUFFIX

    def is_there(self) -> bool:
        """Whether it is there; what keeps that from being known is not a mark."""
        try:
            return files_in(os.path.dirname(self.path)).exists(self.path)
        except OSError:
            return False

    def make(self) -> None:
        """It is there, on disk, if there is any way to make it. (What the job's state says counts as well.)"""
        try:
            self._files().provide_file(self.path)
        except (OSError, AgentError):
            return

    def remove(self) -> None:
        """It is gone."""
        if not self.is_there():
            return
        try:
            self._files().remove_provided(self.path)
        except OSError as error:
            raise NotPermitted(f"remove {self.path}, which the agent cannot: {error.strerror}") from error
