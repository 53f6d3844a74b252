# SPDX-License-Identifier: GPL-2.0-or-later
"""What earlier versions kept in tmpdir is taken over into the state directory, once.

Every superuser of the database may write in tmpdir, so hardly anything is believed: of the newest promotion only one
that is nothing but a promotion, of the job that it was broken off, and no process, no renaming.
"""

import json
import os

from pgsql_ra.ocf import NotPermitted
from pgsql_ra.postgres.user_files import UserFiles
from pgsql_ra.replication.record import Promotion
from pgsql_ra.state import StateDirectory

TAKEN_OVER = "tmpdir-taken-over"
PROMOTION_FILE = "promotion"
JOB_FILE = "rejoin.state"
BROKEN_OFF = "a repair by an earlier version of the agent was broken off"
_MOST = 64 * 1024


def take_over(state: StateDirectory, tmpdir: str, files: UserFiles) -> None:
    """What tmpdir holds of earlier versions is in the state directory. NotPermitted if the promotion cannot be read,
    which it has to be, and while that is so nothing counts as taken over.
    """
    if state.read(TAKEN_OVER) is not None:
        return
    with state.locked(f"{TAKEN_OVER}.lock"):
        if state.read(TAKEN_OVER) is not None:
            return
        if state.read(PROMOTION_FILE) is None and (promotion := _promotion(tmpdir, files)):
            state.write(PROMOTION_FILE, promotion)
        if state.read(JOB_FILE) is None and _was_broken_off(tmpdir, files):
            state.write(JOB_FILE, json.dumps({"broken_off": BROKEN_OFF}))
        state.write(TAKEN_OVER, f"{tmpdir}\n")


def _promotion(tmpdir: str, files: UserFiles) -> str:
    """What the file of an earlier version says, written anew; "" if there is none."""
    path = os.path.join(tmpdir, PROMOTION_FILE)
    try:
        system, promotion, *rest = files.read(path, _MOST).decode("ascii").splitlines()
        if rest or not system.isdigit():
            raise ValueError
        return f"{int(system)}\n{Promotion.parse(promotion)}\n"
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise NotPermitted(f"cannot read {path}: {error.strerror}") from error
    except ValueError:
        raise NotPermitted(
            f"remove {path} if another node knows the newest promotion (`pgsql-ra show`), which it is to tell: it is"
            " damaged"
        ) from None


def _was_broken_off(tmpdir: str, files: UserFiles) -> bool:
    """What cannot be read may have said so."""
    try:
        return bool(json.loads(files.read(os.path.join(tmpdir, JOB_FILE), _MOST)).get("broken_off"))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError, AttributeError):
        return True
