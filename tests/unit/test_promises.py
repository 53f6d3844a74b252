# SPDX-License-Identifier: GPL-2.0-or-later
"""A broken promise is told from a test that failed for another reason: only the latter is played again."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.promises import BROKEN_PROMISE

PROJECT = Path(__file__).parents[2]

FAILS = """
def test_that_passes():
    pass

def test_that_fails():
    assert False
"""
LOSES_A_ROW = """
from tests.promises import promise

def test_that_loses_a_row():
    promise(True, "two servers take writes")
    promise(False, "a row is lost")
"""


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(
    ("files", "expected"),
    [({"test_a.py": FAILS}, 1), ({"test_a.py": FAILS, "test_b.py": LOSES_A_ROW}, BROKEN_PROMISE)],
)
def test_exit_code(tmp_path: Path, files: dict[str, str], expected: int, workers: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    options = ["-q", "-n", workers, "-p", "tests.conftest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    command = [sys.executable, "-m", "pytest", *options, "-c", str(tmp_path / "pytest.ini"), str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expected, done.stdout + done.stderr
