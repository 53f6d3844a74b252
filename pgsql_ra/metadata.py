# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's meta-data, made from the declared parameters and the actions below.

    python -m pgsql_ra.metadata           writes meta-data/pgsql.xml and docs/parameters.md
    python -m pgsql_ra.metadata --check   exits 1 if one of these files is not what would be written

The XML is checked in and installed, and the action `meta-data` prints it. It pleases, together, the OCF 1.1 schema,
Pacemaker, pcs, crmsh and ocf-tester; three things in it are there for one of them:

- Its DOCTYPE holds a DTD of its own. ocf-tester demands that the document is valid against a DTD, and the one of
  resource-agents knows nothing of OCF 1.1. Ours is as strict as the OCF schema or stricter, so it is a test, too.
- There is no encoding in the XML declaration: crmsh parses a str, and lxml refuses a str that declares an encoding.
  UTF-8 is XML's default.
- English texts come first in each element: crmsh and pcs show the first, whatever its language.
"""

import sys
import textwrap
from pathlib import Path
from typing import Any, Final, NamedTuple

from lxml import etree

from pgsql_ra import __version__
from pgsql_ra.parameters import Parameter, Parameters

NAME: Final = "pgsql"
OCF_VERSION: Final = "1.1"
PROJECT: Final = Path(__file__).resolve().parent.parent
FILE: Final = PROJECT / "meta-data" / "pgsql.xml"
GUIDE: Final = PROJECT / "docs" / "parameters.md"
TEXT_COLUMNS: Final = 78
GUIDE_COLUMNS: Final = 120

SHORTDESC: Final = "Manages PostgreSQL, alone or with streaming replication and automatic failover"
LONGDESC: Final = """
    Runs a PostgreSQL server as a cluster resource. As a plain resource it keeps one server running (rep_mode none), or
    a standby of a primary elsewhere (slave). As a promotable clone it runs one primary and its streaming standbys
    (async, sync): it promotes a standby only if that loses no acknowledged commit in mode sync, and brings the others
    behind the new primary.

    It takes the parameters of ocf:heartbeat:pgsql with the same names and defaults and keeps the same node attributes.
    Fencing must be configured for the replication modes; without it no agent can rule out two primaries.
    """


class Action(NamedTuple):
    """An action and the times, in seconds, that we advise for it."""

    name: str
    timeout: int
    interval: int = 0
    role: str = ""


ACTIONS: Final = (
    Action("start", 120),
    Action("stop", 120),
    Action("promote", 120),
    Action("demote", 120),
    Action("notify", 90),
    # Pacemaker tells recurring monitors of one resource apart by their interval: the two must differ. The pairs of
    # names and roles are those of OCF 1.1; an operation with role=Master in an old configuration works as before.
    Action("monitor", 30, interval=30),
    Action("monitor", 30, interval=29, role="Promoted"),
    Action("reload-agent", 30),
    Action("status", 60),
    Action("validate-all", 5),
    Action("meta-data", 5),
    Action("methods", 5),
)

# Written for this document; names of elements and attributes and their order are those of OCF 1.1.
DOCTYPE: Final = """\
<!DOCTYPE resource-agent [
<!ELEMENT resource-agent (version, longdesc+, shortdesc+, parameters, actions)>
<!ATTLIST resource-agent name CDATA #REQUIRED version CDATA #IMPLIED>
<!ELEMENT version (#PCDATA)>
<!ELEMENT longdesc (#PCDATA)>
<!ATTLIST longdesc lang NMTOKEN #REQUIRED>
<!ELEMENT shortdesc (#PCDATA)>
<!ATTLIST shortdesc lang NMTOKEN #REQUIRED>
<!ELEMENT parameters (parameter+)>
<!ELEMENT parameter (deprecated?, longdesc+, shortdesc+, content)>
<!ATTLIST parameter name ID #REQUIRED required (0|1) #IMPLIED reloadable (0|1) #IMPLIED>
<!ELEMENT deprecated (desc*)>
<!ELEMENT desc (#PCDATA)>
<!ATTLIST desc lang NMTOKEN #REQUIRED>
<!ELEMENT content (option*)>
<!ATTLIST content type (boolean|string|integer|select) #REQUIRED default CDATA #IMPLIED>
<!ELEMENT option EMPTY>
<!ATTLIST option value CDATA #REQUIRED>
<!ELEMENT actions (action+)>
<!ELEMENT action EMPTY>
<!ATTLIST action name CDATA #REQUIRED timeout CDATA #REQUIRED interval CDATA #IMPLIED
                 role (Promoted|Unpromoted) #IMPLIED>
]>"""


def document() -> str:
    """The whole meta-data document, ending in a newline."""
    root = etree.Element("resource-agent", name=NAME, version=__version__)
    etree.SubElement(root, "version").text = OCF_VERSION
    describe(root, SHORTDESC, LONGDESC)
    parameters = etree.SubElement(root, "parameters")
    for declared in Parameters.declared():
        add_parameter(parameters, declared)
    actions = etree.SubElement(root, "actions")
    for action in ACTIONS:
        add_action(actions, action)
    etree.indent(root)
    return f'<?xml version="1.0"?>\n{DOCTYPE}\n{etree.tostring(root, encoding="unicode")}\n'


def add_parameter(parent: etree._Element, declared: Parameter[Any]) -> None:
    """Adds one parameter. `required` stays 0: what is needed depends on rep_mode, which no schema can say."""
    element = etree.SubElement(
        parent, "parameter", name=declared.name, required="0", reloadable="1" if declared.reloadable else "0"
    )
    if declared.deprecated:
        deprecated = etree.SubElement(element, "deprecated")
        etree.SubElement(deprecated, "desc", lang="en").text = declared.deprecated
    describe(element, declared.shortdesc, declared.longdesc)
    content = etree.SubElement(element, "content", type=declared.xml_type, default=declared.default_text)
    for word in declared.options():
        etree.SubElement(content, "option", value=word)


def add_action(parent: etree._Element, action: Action) -> None:
    """Adds one action; seconds carry their unit, as tools that read them as text expect."""
    element = etree.SubElement(parent, "action", name=action.name, timeout=f"{action.timeout}s")
    if action.interval:
        element.set("interval", f"{action.interval}s")
    if action.role:
        element.set("role", action.role)


def describe(parent: etree._Element, shortdesc: str, longdesc: str) -> None:
    """Adds the two descriptions, the long one first, as OCF 1.1 has them."""
    etree.SubElement(parent, "longdesc", lang="en").text = f"\n{wrapped(longdesc)}\n"
    etree.SubElement(parent, "shortdesc", lang="en").text = shortdesc


def wrapped(text: str, columns: int = TEXT_COLUMNS) -> str:
    """The paragraphs of `text` in lines of a terminal's width: crmsh shows them as they are."""
    paragraphs = textwrap.dedent(text).strip().split("\n\n")
    return "\n\n".join(
        textwrap.fill(paragraph, columns, break_long_words=False, break_on_hyphens=False) for paragraph in paragraphs
    )


GUIDE_HEAD: Final = """\
# Parameters

<!-- Made from pgsql_ra/parameters.py by `make meta-data`: change the texts there. -->

Names and defaults are those of `ocf:heartbeat:pgsql`. A parameter that is not set and one that is empty are the same.
*At once* says that a change takes effect without a restart (`reload-agent`; the log tells what the server reads only
when it starts). Every other change makes Pacemaker restart the resource on all nodes.

| parameter | default | a change takes effect | |
|---|---|---|---|
"""


def guide() -> str:
    """The same parameters for people: a table, and below it the text of each."""
    declared = Parameters.declared()
    rows = "".join(guide_row(each) for each in declared)
    return GUIDE_HEAD + rows + "".join(guide_section(each) for each in declared)


def guide_row(declared: Parameter[Any]) -> str:
    """One line of the table."""
    default = f"`{declared.default_text}`" if declared.default_text else ""
    change = "at once" if declared.reloadable else "by a restart"
    return f"| [{declared.name}](#{declared.name}) | {default} | {change} | {declared.shortdesc} |\n"


def guide_section(declared: Parameter[Any]) -> str:
    """What one parameter means, and what it may be."""
    notes = [f"One of {', '.join(f'`{word}`' for word in declared.options())}."] if declared.options() else []
    notes += [f"Deprecated: {declared.deprecated}"] if declared.deprecated else []
    text = "\n\n".join([wrapped(declared.longdesc, GUIDE_COLUMNS), *notes])
    return f"\n## {declared.name}\n\n{text}\n"


def main(arguments: list[str]) -> int:
    """Writes or checks the files; the exit code is 0, 1 (not current) or 2 (wrong usage)."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m pgsql_ra.metadata [--check]", file=sys.stderr)
        return 2
    files = {FILE: document(), GUIDE: guide()}
    if not arguments:
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
        return 0
    old = [file for file, text in files.items() if not file.is_file() or file.read_text(encoding="utf-8") != text]
    for file in old:
        print(f"{file} is not what the declared parameters and actions give: run make meta-data", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
