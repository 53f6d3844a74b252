# SPDX-License-Identifier: GPL-2.0-or-later
"""Which room may use which, what the pure room may not do at all, and what an action may load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pgsql_ra"
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
PURE = {name: path for name, path in MODULES.items() if name.startswith("pgsql_ra.replication.")}

ALLOWED_IN_PURE = {"collections", "dataclasses", "enum", "itertools", "math", "typing"}
HEAVY = ("psycopg", "lxml", "click")
MOST_LINES = 400
MAY_SIGNAL = ("pgsql_ra.postgres.process", "pgsql_ra.postgres.server")
LONG_ON_PURPOSE = {"pgsql_ra.parameters"}
"""Texts for people, one after the other."""

ROOTS_OWN = ("pgsql_ra.replacing", "pgsql_ra.state", "pgsql_ra.trusted")
# Who may import what of ours, by room; deeper is more specific, and what is not listed is forbidden.
DOORS = {
    "pgsql_ra.ocf": (),
    "pgsql_ra.parameters": (),
    "pgsql_ra.trusted": ("pgsql_ra.ocf",),
    "pgsql_ra.replacing": (),
    "pgsql_ra.state": ("pgsql_ra.ocf", "pgsql_ra.replacing", "pgsql_ra.trusted"),
    "pgsql_ra.replication": ("pgsql_ra.replication",),
    "pgsql_ra.postgres": (
        "pgsql_ra.postgres",
        "pgsql_ra.replication",
        "pgsql_ra.ocf",
        *ROOTS_OWN,
    ),
    "pgsql_ra.pacemaker": ("pgsql_ra.pacemaker", "pgsql_ra.replication", "pgsql_ra.ocf"),
    "pgsql_ra.metadata": ("pgsql_ra.parameters",),
    "pgsql_ra.trace": ("pgsql_ra.parameters", "pgsql_ra.ocf"),
}
MAY_USE_ACTIONS = ("pgsql_ra.actions", "pgsql_ra.agent", "pgsql_ra.cli")


def imports(path: Path) -> Iterator[str]:
    """The modules that a module imports, wherever in it; those of `if TYPE_CHECKING` count too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            # `from pgsql_ra import ocf` names a module, `from pgsql_ra.ocf import Exit` does not.
            names = (f"{module}.{alias.name}" for alias in node.names)
            found = [name for name in names if name in MODULES or f"{name}.__init__" in MODULES]
            yield from found or [module]


def ours(path: Path) -> list[str]:
    """The modules of ours among them; the package itself holds the version and nothing else."""
    return [name for name in imports(path) if name.startswith("pgsql_ra.")]


def is_in(name: str, rooms: tuple[str, ...]) -> bool:
    """Whether a module is one of these, or inside of one."""
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def test_there_is_something_to_look_at() -> None:
    assert len(PURE) > 5
    assert all(any(is_in(name, (room,)) for name in MODULES) for room in DOORS)


@pytest.mark.parametrize("name", MODULES)
def test_doors(name: str) -> None:
    for room, may_use in DOORS.items():
        if is_in(name, (room,)):
            assert [used for used in ours(MODULES[name]) if not is_in(used, may_use)] == []


@pytest.mark.parametrize("name", MODULES)
def test_only_the_way_in_uses_actions(name: str) -> None:
    if not is_in(name, MAY_USE_ACTIONS):
        assert [used for used in ours(MODULES[name]) if is_in(used, ("pgsql_ra.actions",))] == []


@pytest.mark.parametrize("name", PURE)
def test_decisions_use_nothing_of_the_world(name: str) -> None:
    foreign = {used.partition(".")[0] for used in imports(PURE[name])} - {"pgsql_ra"}
    assert foreign <= ALLOWED_IN_PURE


@pytest.mark.parametrize("name", PURE)
def test_decisions_do_nothing_to_the_world(name: str) -> None:
    tree = ast.parse(PURE[name].read_text())
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert called & {"print", "open", "input", "exec", "eval", "__import__", "globals"} == set()
    assert [node for node in ast.walk(tree) if isinstance(node, (ast.Global, ast.Nonlocal))] == []


@pytest.mark.parametrize("name", PURE)
def test_what_decisions_see_and_say_cannot_be_changed(name: str) -> None:
    for node in ast.walk(ast.parse(PURE[name].read_text())):
        if isinstance(node, ast.ClassDef):
            written = [ast.unparse(decorator) for decorator in node.decorator_list]
            assert [text for text in written if "dataclass" in text and "frozen=True" not in text] == [], node.name


@pytest.mark.parametrize("name", MODULES)
def test_who_handles_the_agents_errors_handles_the_systems_too(name: str) -> None:
    """A process that ends by itself at the wrong moment is an OSError: a notification was left half done by one."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Try):
            caught = [ast.unparse(handler.type) for handler in node.handlers if handler.type]
            assert "AgentError" not in caught or "OSError" in caught, f"{name}:{node.lineno}: catch ocf.FAILURES"


@pytest.mark.parametrize("name", MODULES)
def test_only_one_place_sends_signals(name: str) -> None:
    """Where a process that has just ended is none to end; a reload has to say that nobody took it."""
    calls = [node for node in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(node, ast.Call)]
    assert [call.lineno for call in calls if ast.unparse(call.func) == "os.kill"] == [] or name in MAY_SIGNAL


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short(name: str) -> None:
    if name not in LONG_ON_PURPOSE:
        assert len(MODULES[name].read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize(
    "module",
    ["pgsql_ra.agent", "pgsql_ra.actions.context", "pgsql_ra.actions.stop", "pgsql_ra.actions.notify"],
)
def test_light_actions_load_nothing_heavy(module: str) -> None:
    """An action's start-up is failover time, and stop has to work when a library is broken."""
    program = f"import sys; import {module}; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(done.stdout.split())
    assert module in loaded
    assert loaded & set(HEAVY) == set()
