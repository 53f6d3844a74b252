# SPDX-License-Identifier: GPL-2.0-or-later
"""One schedule from the first boot to the verdict, in a lab of its own."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.bench.agents import Agent
from tests.chaos.checker import Verdict, judge
from tests.chaos.evidence import gather
from tests.chaos.kinds import LIMITED_DISKS, OWN_CLOCKS, RESTARTING
from tests.chaos.load import Load
from tests.chaos.play import Played, play
from tests.chaos.sampler import Sampler
from tests.chaos.schedule import Schedule
from tests.chaos.settle import Settled, heal_everything, is_whole, settle
from tests.chaos.stage import Stage
from tests.lab import Configuration, Lab, LabError, WaitError
from tests.lab.layout import PROJECT

ARTIFACTS = PROJECT / "tests" / ".artifacts" / "chaos"
DISK_MEGABYTES = 512
START_SECONDS = 120.0
LONG_GAP_SECONDS = 20.0
LAST_COMMITS = 20
LAST_COMMITS_SECONDS = 60.0


class Result(StrEnum):
    """How a run ended."""

    PASSED = "passed"
    NEEDED_A_PERSON = "needed a person"
    """Nothing is wrong with the data, but somebody had to rewind or copy a node, or reset it."""
    FAILED = "failed"
    BROKEN = "broken"
    """The lab could not do its part: this says nothing about the agent."""


@dataclass(frozen=True)
class Outcome:
    """One run in figures. Times in seconds."""

    seed: int
    agent: str
    nodes: int
    rep_mode: str
    faults: tuple[str, ...]
    """The kinds that came about."""
    result: Result
    acknowledged: int = 0
    lost: int = 0
    longest_gap: float | None = None
    """Seen by the client that writes through the virtual address, from the first fault until the end."""
    settled_after: float | None = None
    by_hand: tuple[str, ...] = ()
    cleanups: int = 0
    violations: tuple[str, ...] = ()
    seconds: float = 0.0
    artifacts: str = ""
    schedule: str = ""


@dataclass
class _Record:
    """What a run has found out so far; what an error leaves of it counts, too."""

    played: list[Played] = field(default_factory=list)
    settled: Settled = field(default_factory=Settled)
    verdict: Verdict | None = None
    longest_gap: float | None = None
    error: str = ""


def run(
    schedule: Schedule,
    agent: Agent,
    lab_name: str,
    *,
    keep: bool = False,
    parameters: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """Play a schedule; nothing is left of the lab. Its logs are kept with `keep`, and unless all went well and fast.

    `parameters` are further ones of the agent.
    """
    begin = time.monotonic()
    folder = ARTIFACTS / (str(schedule.seed) if agent.label == "ours" else f"{schedule.seed}-{agent.provider}")
    shutil.rmtree(folder, ignore_errors=True)
    record = _Record()
    with tempfile.TemporaryDirectory(prefix="pgsql-ra-chaos-") as scratch:
        lab = Lab(
            lab_name,
            schedule.nodes,
            providers={agent.provider: agent.directory},
            rep_mode=schedule.rep_mode,
            auto_boot=schedule.auto_boot,
            disk_megabytes=DISK_MEGABYTES if schedule.kinds & LIMITED_DISKS else 0,
            true_power_cuts=True,
            transport=schedule.transport,
            own_clocks=bool(schedule.kinds & OWN_CLOCKS),
            failed_start_logs=folder,
        )
        try:
            with lab:
                try:
                    _configure(lab, schedule, agent, parameters)
                    _run(lab, schedule, Path(scratch), record)
                finally:
                    if keep or _is_worth_a_look(record):
                        _keep(lab, schedule, Path(scratch), folder)
        except (LabError, WaitError) as error:
            record.error = str(error)
    outcome = _outcome(schedule, agent, record, time.monotonic() - begin, folder)
    if folder.exists():
        (folder / "outcome.json").write_text(json.dumps(asdict(outcome), indent=2) + "\n")
    return outcome


def _configure(lab: Lab, schedule: Schedule, agent: Agent, parameters: Mapping[str, str]) -> None:
    # The load that Pacemaker sees is that of all labs on this machine together: nothing depends on it here.
    properties = {"load-threshold": "1%" if schedule.busy else "100000%"}
    restart = {"restart_on_promote": "true"} if schedule.kinds & RESTARTING else {}
    lab.configure(
        Configuration(
            agent=agent.name,
            rep_mode=schedule.rep_mode,
            properties=properties,
            parameters={**restart, **parameters},
        )
    )
    lab.wait("the cluster is whole", lambda seen: is_whole(seen, schedule.rep_mode), within=START_SECONDS)


def _run(lab: Lab, schedule: Schedule, scratch: Path, record: _Record) -> None:
    load = Load(lab)
    with _sampling(lab, scratch) as sampler:
        stage = Stage(lab, sampler, scratch / "diary.jsonl", load.add)
        load.start()
        try:
            begin = time.monotonic()
            record.played = play(stage, schedule)
            heal_everything(stage, schedule)
            record.settled = settle(stage, schedule)
            _last_commits(load, record)
        finally:
            stage.end_background()
            load.stop()
        record.longest_gap = _longest_gap(load, begin)
        record.verdict = judge(
            gather(
                lab,
                load.clients,
                sampler.samples,
                record.settled.problem,
                keeps_timeline=bool(schedule.kinds & RESTARTING),
            )
        )


@contextmanager
def _sampling(lab: Lab, scratch: Path) -> Iterator[Sampler]:
    sampler = Sampler(lab, scratch / "samples.jsonl")
    sampler.start()
    try:
        yield sampler
    finally:
        sampler.stop()


def _last_commits(load: Load, record: _Record) -> None:
    """The whole cluster takes commits again."""
    if record.settled.problem:
        return
    try:
        load.outside.wait_for(LAST_COMMITS, within=LAST_COMMITS_SECONDS)
    except WaitError as error:
        record.settled.problem = f"the cluster is whole, but takes no commits: {error}"


def _longest_gap(load: Load, since: float) -> float | None:
    """The longest time without an acknowledgement through the virtual address."""
    known = [
        line["monotonic"] for line in load.outside.lines() if line["outcome"] == "ack" and line["monotonic"] > since
    ]
    gaps = [after - before for before, after in zip([since, *known], known, strict=False)]
    return max(gaps, default=None)


def _result(record: _Record) -> Result:
    if record.verdict is None:
        return Result.BROKEN
    if record.verdict.violations:
        return Result.FAILED
    return Result.NEEDED_A_PERSON if record.settled.by_hand else Result.PASSED


def _is_worth_a_look(record: _Record) -> bool:
    return _result(record) is not Result.PASSED or (record.longest_gap or 0) > LONG_GAP_SECONDS


def _keep(lab: Lab, schedule: Schedule, scratch: Path, folder: Path) -> None:
    """All that is known of a run is in its folder."""
    lab.collect(folder)
    (folder / "schedule.txt").write_text(f"{schedule}\n")
    (folder / "schedule.json").write_text(json.dumps(asdict(schedule), indent=2) + "\n")
    for file in scratch.iterdir():
        shutil.copy(file, folder / file.name)


def _outcome(schedule: Schedule, agent: Agent, record: _Record, seconds: float, folder: Path) -> Outcome:
    verdict, settled = record.verdict, record.settled
    values: dict[str, Any] = {}
    if verdict is not None:
        values = {"acknowledged": verdict.acknowledged, "lost": len(verdict.lost), "violations": verdict.violations}
    if record.error:
        values["violations"] = (record.error,)
    return Outcome(
        seed=schedule.seed,
        agent=agent.label,
        nodes=schedule.nodes,
        rep_mode=schedule.rep_mode,
        faults=tuple(str(played.step.kind) for played in record.played if played.done),
        result=_result(record),
        longest_gap=record.longest_gap,
        settled_after=settled.seconds if verdict is not None else None,
        by_hand=tuple(settled.by_hand),
        cleanups=settled.cleanups,
        seconds=seconds,
        artifacts=str(folder.relative_to(PROJECT)) if folder.exists() else "",
        schedule=str(schedule),
        **values,
    )
