"""Who runs which phase when.

All systems are mounted at the same time, each with a client process of its own.
A phase runs on one system after the other before the next phase begins, so that
what is compared lies a second apart and meets the same machine; the order of the
systems moves on by one in each round.  Each round starts from fresh images.

After each phase the filesystem settles (an fsync of the mount's directory, its
time noted apart), then the host does (``sync``), so that nobody pays for what
another one has left to be written.  Cold phases drop the kernel's caches first,
or mount again where that is not allowed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from .client import ALSO_NEEDED, PHASES, Phase, Scale
from .systems import System

_CLIENT: Final = Path(__file__).with_name("client.py")
_DROP_CACHES: Final = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One phase on one system in one round."""

    phase: str
    system: str
    round: int
    units: float
    seconds: float
    settle: float  # seconds of the fsync after it

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.units / self.seconds


class PhaseFailed(Exception):
    """A filesystem did not do what the workload asked of it."""


class Client:
    """The process that makes the system calls on one mount."""

    def __init__(self, system: System, scale: Scale) -> None:
        self.system = system
        self._scale = asdict(scale)
        self._process = subprocess.Popen(
            [sys.executable, "-S", _CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )

    def run(self, phase: Phase, number: int) -> Measurement:
        """Run one phase; raises PhaseFailed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {
            "phase": phase.name,
            "directory": str(self.system.mount_point),
            "scale": self._scale,
        }
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline() or '{"error": "the client ended"}')
        if "error" in answer:
            raise PhaseFailed(f"{self.system.name}, {phase.name}: {answer['error']}")
        return Measurement(phase.name, self.system.name, number, **answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def wanted_phases(only: Sequence[str]) -> list[Phase]:
    """The phases called `only` and all that those need; all phases if it is empty."""
    by_name = {phase.name: phase for phase in PHASES}
    wanted: set[str] = set()
    waiting = list(only) or list(by_name)
    while waiting:
        name = waiting.pop()
        if name and name not in wanted:
            wanted.add(name)
            waiting += [by_name[name].needs, ALSO_NEEDED.get(name, "")]
    return [phase for phase in PHASES if phase.name in wanted]


def in_turn(systems: Sequence[System], number: int) -> list[System]:
    """The order of the systems in round `number`: it starts with another one each time."""
    start = number % len(systems)
    return [*systems[start:], *systems[:start]]


def run_round(
    systems: Sequence[System],
    phases: Sequence[Phase],
    scale: Scale,
    number: int,
    on_step: Callable[[str], None],
) -> list[Measurement]:
    """One round on fresh images; raises PhaseFailed, Unavailable."""
    clients: list[Client] = []
    found = []
    try:
        for system in in_turn(systems, number):
            system.format()
            system.mount()
            with contextlib.suppress(FileNotFoundError):  # ext2's; a name more than others list
                (system.mount_point / "lost+found").rmdir()
            clients.append(Client(system, scale))
        for phase in phases:
            for client in clients:
                on_step(f"{phase.name}: {client.system.name}")
                if phase.cold:
                    make_cold(client.system)
                found.append(client.run(phase, number))
                os.sync()
    finally:
        for client in clients:
            client.close()
        for system in systems:
            system.unmount()
    return found


def make_cold(system: System) -> None:
    """Have the kernel forget what it knows: pages, names, attributes."""
    os.sync()
    try:
        _DROP_CACHES.write_text("3\n")
    except OSError:  # only root may; a new mount knows nothing either
        system.unmount()
        system.mount()
