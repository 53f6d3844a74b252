# SPDX-License-Identifier: GPL-2.0-or-later
"""The meta-data document: current, valid for every tool that reads it, and complete."""

import subprocess
from pathlib import Path

import pytest
from lxml import etree

from pgsql_ra import metadata
from pgsql_ra.parameters import Parameters

# The schema of pcs stands in for OCF's own, whose licence does not let us carry it. The DTD inside the document is the
# stricter one of the two and knows the order of elements.
SHELL_AGENT = "/usr/lib/ocf/resource.d/heartbeat/pgsql"
PCS_SCHEMA = Path("/usr/share/pcs/data/ocf-1.1.rng")


@pytest.fixture(scope="module")
def root() -> etree._Element:
    """The document that is checked in."""
    return etree.fromstring(metadata.FILE.read_bytes())


def test_the_file_is_current() -> None:
    assert metadata.main(["--check"]) == 0


def test_check_says_what_to_do_when_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metadata, "FILE", tmp_path / "pgsql.xml")
    monkeypatch.setattr(metadata, "GUIDE", tmp_path / "parameters.md")
    assert metadata.main(["--check"]) == 1
    assert "make meta-data" in capsys.readouterr().err
    assert metadata.main([]) == 0
    assert metadata.main(["--check"]) == 0
    for file in tmp_path.iterdir():
        whole = file.read_text()
        file.write_text(whole.replace("5432", "5433"))
        assert metadata.main(["--check"]) == 1
        assert file.name in capsys.readouterr().err
        file.write_text(whole)


def test_the_guide_has_a_line_and_a_text_for_every_parameter() -> None:
    text = metadata.GUIDE.read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| [")]
    assert [row[0] for row in rows] == [f"| [{each.name}](#{each.name})" for each in Parameters.declared()]
    assert [row[2] == "at once" for row in rows] == [each.reloadable for each in Parameters.declared()]
    assert all(len(row) == 4 for row in rows), "no text may hold what ends a cell"
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        each.name for each in Parameters.declared()
    ]


def test_wrong_usage_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert metadata.main(["--chekc"]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_package_carries_the_same_file() -> None:
    inside = Path(metadata.__file__).with_name("pgsql.xml")
    assert inside.read_bytes() == metadata.FILE.read_bytes()


def test_crmsh_can_parse_it() -> None:
    """crmsh parses a str, which lxml refuses if the document declares an encoding."""
    assert metadata.document().startswith('<?xml version="1.0"?>\n')
    etree.fromstring(metadata.document())


def test_it_is_valid_against_the_dtd_it_holds(root: etree._Element) -> None:
    dtd = root.getroottree().docinfo.internalDTD
    assert dtd is not None
    assert dtd.validate(root), dtd.error_log


def test_the_dtd_notices_what_ocf_forbids(root: etree._Element) -> None:
    """So that the test above means something: children in another order, and an attribute that OCF 1.1 lacks."""
    dtd = root.getroottree().docinfo.internalDTD
    assert dtd is not None
    swapped = etree.fromstring(etree.tostring(root))
    parameter = swapped.find("parameters/parameter")
    assert parameter is not None
    parameter.append(parameter[0])
    assert not dtd.validate(swapped)
    secret = etree.fromstring(etree.tostring(root))
    secret.find("parameters/parameter").set("private", "1")  # type: ignore[union-attr]
    assert not dtd.validate(secret)


def test_it_is_of_ocf_1_1_which_reload_agent_needs(root: etree._Element) -> None:
    assert root.findtext("version") == "1.1"
    assert root.get("name") == "pgsql"


def test_every_parameter_is_there_in_order_with_type_and_default(root: etree._Element) -> None:
    found = [
        (each.get("name"), each.find("content").get("type"), each.find("content").get("default"))  # type: ignore[union-attr]
        for each in root.iterfind("parameters/parameter")
    ]
    assert found == [(each.name, each.xml_type, each.default_text) for each in Parameters.declared()]


def test_every_parameter_and_the_agent_have_english_texts_first(root: etree._Element) -> None:
    for described in (root, *root.iterfind("parameters/parameter")):
        for tag in ("longdesc", "shortdesc"):
            first = described.find(tag)
            assert first is not None
            assert first.get("lang") == "en"
            text = (first.text or "").strip()
            assert text
            assert all(len(line) <= metadata.TEXT_COLUMNS for line in text.splitlines() if tag == "longdesc")


def test_the_modes_are_offered_as_a_choice(root: etree._Element) -> None:
    assert root.xpath("//parameter[@name='rep_mode']/content/option/@value") == ["none", "async", "sync", "slave"]


def test_only_psql_is_deprecated(root: etree._Element) -> None:
    assert root.xpath("//parameter[deprecated]/@name") == ["psql"]


def test_advised_times_are_those_of_the_shell_agent(root: etree._Element) -> None:
    advised = {
        (each.get("name"), each.get("role")): (each.get("timeout"), each.get("interval"))
        for each in root.iterfind("actions/action")
    }
    assert advised == {
        ("start", None): ("120s", None),
        ("stop", None): ("120s", None),
        ("promote", None): ("120s", None),
        ("demote", None): ("120s", None),
        ("reload-agent", None): ("30s", None),
        ("notify", None): ("90s", None),
        ("monitor", None): ("30s", "30s"),
        ("monitor", "Promoted"): ("30s", "29s"),
        ("status", None): ("60s", None),
        ("validate-all", None): ("5s", None),
        ("meta-data", None): ("5s", None),
        ("methods", None): ("5s", None),
    }


@pytest.mark.tools
def test_every_parameter_of_the_shell_agent_on_this_machine_is_there_with_its_default(root: etree._Element) -> None:
    ran = subprocess.run([SHELL_AGENT, "meta-data"], env={"OCF_ROOT": "/usr/lib/ocf"}, capture_output=True, check=True)
    wanted, ours = defaults_in(etree.fromstring(ran.stdout)), defaults_in(root)
    assert len(wanted) > 30
    assert {name: ours.get(name) for name in wanted} == wanted


def defaults_in(document: etree._Element) -> dict[str | None, str]:
    """The parameters of a meta-data document with their defaults; an agent may leave an empty one out."""
    return {each.get("name"): each.find("content").get("default", "") for each in document.iter("parameter")}  # type: ignore[union-attr]


@pytest.mark.tools
@pytest.mark.parametrize("how", [["--valid"], ["--relaxng", str(PCS_SCHEMA)]], ids=["as ocf-tester", "as pcs"])
def test_xmllint_is_content(how: list[str], tmp_path: Path) -> None:
    ran = subprocess.run(
        ["xmllint", "--noout", *how, str(metadata.FILE)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
