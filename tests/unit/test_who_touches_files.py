# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent is root, the directories of the server are not: who opens, makes, renames or removes a file at all is a
short list, and each entry has its reason.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pgsql_ra"

MAY = {
    "postgres/user_files.py": "the one way to touch what belongs to the server's user",
    "postgres/reading.py": "the same for reading",
    "state.py": "the state directory, which is root's alone",
    "trusted.py": "goes down to a directory that is root's alone",
    "replacing.py": "works in a directory that one of the above has opened",
    "ocf.py": "the log file that Pacemaker names (HA_LOGFILE)",
    "trace.py": "the trace that the administrator asks for",
    "metadata.py": "writes the meta-data, a file of the package, when that is built",
    "agent.py": "the meta-data, a file of the package",
    "postgres/vacancy.py": "/etc/fstab and the kernel's mounts",
}
OF_OS = {
    *("open", "mkdir", "makedirs", "mkfifo", "mknod", "symlink", "link", "truncate", "utime", "readlink"),
    *("rename", "renames", "replace", "remove", "unlink", "rmdir", "removedirs", "listdir", "scandir", "walk", "fwalk"),
    *("chown", "lchown", "fchown", "chmod", "lchmod", "fchmod", "chflags", "setxattr", "removexattr"),
}
OF_SHUTIL = {"copy", "copy2", "copyfile", "copymode", "copystat", "copytree", "rmtree", "move", "chown", "make_archive"}
OF_PATHLIB = {"read_text", "read_bytes", "write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "iterdir"}
KERNELS = ("/proc/", "/dev/null")


def touches(source: str) -> Iterator[str]:
    """The calls that touch a file by its name, but for those whose name the kernel owns, as it stands in the call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "shutil", "pathlib", "tempfile", "io"):
            forbidden = OF_OS | OF_SHUTIL | {"Path"} | ({"*"})
            yield from (f"{node.lineno}: from {node.module}" for name in node.names if name.name in forbidden)
        if isinstance(node, ast.Call) and _touches(node.func) and not (node.args and _is_kernels(node.args[0])):
            yield f"{node.lineno}: {ast.unparse(node.func)}"


def _touches(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id == "open"
    if not isinstance(function, ast.Attribute):
        return False
    if isinstance(function.value, ast.Name) and function.value.id in ("os", "shutil", "io", "tempfile"):
        forbidden = {"os": OF_OS, "shutil": OF_SHUTIL, "io": {"open"}}.get(function.value.id)
        return forbidden is None or function.attr in forbidden
    return function.attr in OF_PATHLIB


def _is_kernels(argument: ast.expr) -> bool:
    if isinstance(argument, ast.JoinedStr):
        argument = argument.values[0]
    return (
        (isinstance(argument, ast.Constant) and str(argument.value).startswith(KERNELS))
        or (ast.unparse(argument) == "os.devnull")
        or (isinstance(argument, ast.Constant) and argument.value == "/proc")
    )


MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_only_a_few_modules_touch_files(module: str) -> None:
    found = list(touches((PACKAGE / module).read_text()))
    assert module in MAY or found == [], f"use postgres.user_files, postgres.reading or state in {module}: {found}"


@pytest.mark.parametrize("module", MAY)
def test_whoever_may_does(module: str) -> None:
    """An entry that is not needed any more goes."""
    assert list(touches((PACKAGE / module).read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "open(path)",
        "os.open(path, 0)",
        "os.replace(a, b)",
        "shutil.rmtree(path)",
        "tempfile.mkstemp()",
        "pathlib_path.write_text('')",
        "from os import rename",
        "from pathlib import Path",
        "open(f'{path}/proc/')",
    ],
)
def test_it_would_be_seen(source: str) -> None:
    assert list(touches(source))


@pytest.mark.parametrize("source", ["open(f'/proc/{pid}/stat')", "os.listdir('/proc')", "os.open(os.devnull, 0)"])
def test_the_kernels_files_are_read(source: str) -> None:
    assert not list(touches(source))
