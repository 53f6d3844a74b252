# SPDX-License-Identifier: GPL-2.0-or-later
"""Tracing one action into a file, as `crm resource trace` and the resource-agents library ask for it.

On if OCF_TRACE_RA or the parameter-like OCF_RESKEY_trace_ra is true. The file is OCF_TRACE_FILE or
OCF_RESKEY_trace_file (an absolute path, or the number of an open file descriptor from 3 to 9), else one of its own
below OCF_RESKEY_trace_dir.
"""

import os
import time
from collections.abc import Mapping
from typing import TextIO

from pgsql_ra.ocf import resource_name
from pgsql_ra.parameters import TRUE_WORDS, Parameters

DEFAULT_DIRECTORY = "/var/lib/heartbeat/trace_ra"
DESCRIPTORS = range(3, 10)


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether this action is to be traced."""
    return any(environ.get(name, "") in TRUE_WORDS for name in ("OCF_TRACE_RA", "OCF_RESKEY_trace_ra"))


def open_trace(action: str, environ: Mapping[str, str]) -> TextIO:
    """The open trace with its first lines: action and parameters, secrets left out. OSError if it cannot be written."""
    target = environ.get("OCF_TRACE_FILE") or environ.get("OCF_RESKEY_trace_file") or ""
    where: int | str
    if target.isdigit() and int(target) in DESCRIPTORS:
        where = os.dup(int(target))
    else:
        where = target if target.startswith("/") else _own_file(action, environ)
    trace = open(where, "a", encoding="utf-8", errors="replace")  # noqa: SIM115 - open until the action ends
    trace.write(f"{time.strftime('%F %T')} {action} of {environ.get('OCF_RESOURCE_INSTANCE', '-')}\n")
    for name, value in sorted(Parameters(environ).given().items()):
        trace.write(f"  {name}={value}\n")
    trace.flush()
    return trace


def _own_file(action: str, environ: Mapping[str, str]) -> str:
    directory = environ.get("OCF_RESKEY_trace_dir") or DEFAULT_DIRECTORY
    folder = os.path.join(directory, environ.get("OCF_RESOURCE_TYPE") or "pgsql")
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, f"{resource_name(environ)}.{action}.{time.strftime('%F.%T')}")
