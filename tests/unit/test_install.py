# SPDX-License-Identifier: GPL-2.0-or-later
"""`make install` and `make uninstall`, as an administrator runs them: as root, in whatever environment."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pgsql_ra import metadata

CHECKOUT = Path(__file__).parents[2]
WHEELS = CHECKOUT / ".build" / "wheels"
MINIMAL = {"PATH": "/usr/bin:/bin"}

pytestmark = pytest.mark.install


def make(
    target: str, variables: Mapping[str, object], environ: Mapping[str, str] = MINIMAL, mask: int = 0o022
) -> subprocess.CompletedProcess[str]:
    """Runs make from another directory, without anything of the environment of the tests."""
    settings = {"WHEELS": WHEELS, **variables}
    return subprocess.run(
        ["make", "-C", str(CHECKOUT), target, *(f"{name}={value}" for name, value in settings.items())],
        cwd="/",
        env=dict(environ),
        umask=mask,
        capture_output=True,
        text=True,
        check=False,
    )


def run(command: str, environ: Mapping[str, str] = MINIMAL) -> subprocess.CompletedProcess[str]:
    """Runs a shell command in an environment of its own."""
    return subprocess.run(["/bin/sh", "-c", command], env=dict(environ), capture_output=True, text=True, check=False)


def tree(directory: Path) -> list[str]:
    """Everything below a directory."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """An empty directory that every user may enter (pytest's own are private)."""
    with tempfile.TemporaryDirectory(prefix="pgsql-ra-install.") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def variables(place: Path) -> dict[str, object]:
    """Where the installation of this module lies."""
    return {"PREFIX": place / "lib/pgsql-ra", "OCF_ROOT": place / "ocf", "BINDIR": place / "sbin"}


@pytest.fixture(scope="module")
def agent(place: Path, variables: dict[str, object]) -> Path:
    """An installed agent; it was installed with a strict umask and a misleading environment."""
    misled = {**MINIMAL, "PYTHONPATH": "/nonexistent", "PYTHONHOME": "/nonexistent", "LC_ALL": "ja_JP.eucJP"}
    misled |= {"PYTHONDONTWRITEBYTECODE": "1", "VIRTUAL_ENV": "/nonexistent", "PIP_TARGET": "/nonexistent"}
    installed = make("install", variables, misled, mask=0o077)
    assert installed.returncode == 0, installed.stderr
    for opened in (place / "lib", place / "ocf"):
        assert opened.stat().st_mode & 0o777 == 0o755
    return place / "ocf/resource.d/pgsql-ra/pgsql"


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"LC_ALL": "ja_JP.eucJP", "PYTHONIOENCODING": "ascii"}, id="another locale"),
        pytest.param({"PYTHONPATH": "/nonexistent", "PYTHONHOME": "/nonexistent"}, id="another Python's home"),
    ],
)
def test_nobody_can_read_the_meta_data_in_any_environment(agent: Path, environ: dict[str, str]) -> None:
    settings = shlex.join(f"{name}={value}" for name, value in environ.items())
    ran = run(f"su nobody -s /bin/sh -c 'env -i {settings} {agent} meta-data'")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == metadata.FILE.read_text(encoding="utf-8")


def test_everything_is_byte_compiled_and_readable(agent: Path, place: Path) -> None:
    assert agent.stat().st_mode & 0o777 == 0o755
    library = place / "lib/pgsql-ra/lib"
    for path in library.rglob("*"):
        assert path.stat().st_mode & 0o004, path
    sources = [path for path in library.rglob("*.py") if path.stat().st_size]
    missing = [path for path in sources if not list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))]
    assert sources
    assert missing == []


def test_running_it_as_root_writes_nothing_into_the_installation(agent: Path, place: Path) -> None:
    before = tree(place)
    assert run(f"{agent} meta-data").returncode == 0
    assert run(f"{place}/sbin/pgsql-ra --help").returncode == 0
    assert tree(place) == before


def test_the_building_leaves_nothing_in_the_checkout(agent: Path) -> None:
    assert agent.exists()
    assert not (CHECKOUT / "build").exists()
    assert list(CHECKOUT.glob("*.egg-info")) == []


def test_a_failed_installation_changes_nothing(
    agent: Path, place: Path, variables: dict[str, object], tmp_path: Path
) -> None:
    before = tree(place)
    failed = make("install", {**variables, "WHEELS": tmp_path})
    assert failed.returncode != 0
    assert failed.stderr
    assert tree(place) == before
    assert run(f"{agent} meta-data").returncode == 0


@pytest.mark.parametrize("bad", ["relative/path", "/a b", "/a'b", "/"])
def test_a_path_that_a_script_could_not_hold_is_refused(bad: str, variables: dict[str, object]) -> None:
    failed = make("install", {**variables, "PREFIX": bad})
    assert failed.returncode != 0


@pytest.mark.tools
def test_crmsh_pcs_and_pacemaker_show_it(agent: Path, tmp_path: Path) -> None:
    """They look below /usr/lib/ocf only, so it is mounted there, where only these commands see it."""
    script = f"""
        set -e
        cp -a /usr/lib/ocf/resource.d/. {tmp_path}
        cp -a {agent.parent} {tmp_path}/pgsql-ra
        mount --bind {tmp_path} /usr/lib/ocf/resource.d
        export LC_ALL=C.UTF-8 HOME={tmp_path} PATH={os.environ["PATH"]}
        crm_resource --show-metadata ocf:pgsql-ra:pgsql
        echo =====; crm ra info ocf:pgsql-ra:pgsql
        echo =====; pcs resource describe ocf:pgsql-ra:pgsql
    """
    ran = run(f"unshare --mount --propagation private /bin/sh -c {shlex.quote(script)}")
    assert (ran.returncode, ran.stderr) == (0, "")
    pacemaker, crmsh, pcs = ran.stdout.split("=====\n")
    assert pacemaker.rstrip() == metadata.FILE.read_text(encoding="utf-8").rstrip()
    for shown in (crmsh, pcs):
        assert metadata.SHORTDESC in shown
        assert "external_standby_node_list" in shown


def test_staged_below_a_directory_it_knows_its_final_place_and_goes_away_again(tmp_path: Path) -> None:
    others = tmp_path / "usr/lib/ocf/resource.d/heartbeat/pgsql"
    others.parent.mkdir(parents=True)
    others.touch()
    before = tree(tmp_path)
    installed = make("install", {"DESTDIR": tmp_path})
    assert installed.returncode == 0, installed.stderr
    stub = (tmp_path / "usr/lib/ocf/resource.d/pgsql-ra/pgsql").read_text(encoding="utf-8")
    assert stub.startswith("#!/usr/bin/python3 -I")
    assert '"/usr/lib/pgsql-ra/lib"' in stub
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path
    removed = make("uninstall", {"DESTDIR": tmp_path})
    assert removed.returncode == 0, removed.stderr
    assert tree(tmp_path) == before


def test_in_the_place_of_another_agent_which_comes_back(tmp_path: Path) -> None:
    variables = {"DESTDIR": tmp_path, "PROVIDER": "heartbeat"}
    agent = tmp_path / "usr/lib/ocf/resource.d/heartbeat/pgsql"
    agent.parent.mkdir(parents=True)
    agent.write_text("the shell agent")
    for text in ("the shell agent", "its next version"):
        agent.write_text(text)  # an upgrade of its package
        installed = make("install", variables)
        assert installed.returncode == 0, installed.stderr
        assert "from pgsql_ra.agent import main" in agent.read_text()
    assert make("uninstall", variables).returncode == 0
    assert agent.read_text() == "its next version"
    assert make("uninstall", variables).returncode == 0
    assert agent.read_text() == "its next version", "what is not ours is left alone"
    assert tree(agent.parent) == ["pgsql"]


def test_uninstall_leaves_nothing(agent: Path, place: Path, variables: dict[str, object]) -> None:
    """The last test of this module: it removes what the others look at."""
    assert agent.exists()
    assert make("uninstall", variables).returncode == 0
    assert tree(place) == []
    assert make("uninstall", variables).returncode == 0
