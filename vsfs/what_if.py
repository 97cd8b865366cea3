"""What if: the same calls on copies of one image, each under another setting.

OSTEP 40.7 says what a cache, a write buffer and a long path do to the number of
reads and writes; here that is counted.  A :class:`Setting` says how a copy in memory
is made and mounted, and :func:`measure` what the calls then cost::

    for setting in alternatives(base, {"cache": ("small", "none")}):
        outcome = measure(image, setting, program, user, clock)

Every setting is the filesystem's own: options of ``Volume``, bounds of its caches,
a journal that ``tune`` adds or takes away, directories above the tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from vsfs.cold import ColdVolume
from vsfs.deeper import DeeperTable, move_down
from vsfs.device import Kind, MemoryDevice
from vsfs.filesystem import FileSystem
from vsfs.layout import FEATURE_COMPAT_JOURNAL
from vsfs.small import SmallVolume
from vsfs.trace import Event, Totals, TracedCall, totals_of
from vsfs.traced import CallObserver, TracedVolume
from vsfs.tune import add_journal, read_superblock, remove_journal
from vsfs.volume import Volume
from vsfs.walk import Credentials

Clock = Callable[[], int]
#: Makes the calls; returns whether they went well.
Program = Callable[[FileSystem], bool]

#: What can be chosen, and its values.
AXES: Final[dict[str, tuple[str, ...]]] = {
    "atime": ("relatime", "strictatime", "noatime"),
    "cache": ("large", "small", "none"),
    "write": ("back", "through"),
    "journal": ("off", "on"),
    "depth": ("1", "2", "3", "4", "5", "6", "7", "8"),
}
_VOLUMES: Final = {"large": TracedVolume, "small": SmallVolume, "none": ColdVolume}
_ROOT: Final = Credentials(0, 0)
_NOTHING: Final = Totals()


class Setting(NamedTuple):
    """A value for each of :data:`AXES`.

    A `depth` of n puts the tree below n - 1 directories.
    """

    atime: str = "relatime"
    cache: str = "large"
    write: str = "back"
    journal: str = "off"
    depth: str = "1"

    def possible(self) -> Setting:
        """It, with what follows from it: without a cache nothing can be written later."""
        return self._replace(write="through") if self.cache == "none" else self

    def differences(self, base: Setting) -> dict[str, str]:
        """Where it is not as `base`."""
        ours, theirs = self._asdict(), base._asdict()
        return {axis: value for axis, value in ours.items() if value != theirs[axis]}


class Blocks(NamedTuple):
    """Blocks of one kind that were read and written; one counts as often as it was."""

    read: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the calls cost under `setting`; `trouble` says why that is not known, or is ""."""

    setting: Setting
    totals: Totals = _NOTHING
    blocks: dict[Kind, Blocks] = field(default_factory=dict)
    trouble: str = ""


def setting_of(volume: Volume) -> Setting:
    """How an image is by itself: the default of each option, with a journal if it has one."""
    has_journal = volume.superblock.feature_compat & FEATURE_COMPAT_JOURNAL
    return Setting(journal="on" if has_journal else "off")


def alternatives(base: Setting, varied: Mapping[str, tuple[str, ...]]) -> list[Setting]:
    """`base`, and what differs from it in one of the `varied` axes, one at a time."""
    others = (base._replace(**{axis: value}) for axis, values in varied.items() for value in values)
    return list(dict.fromkeys(setting.possible() for setting in (base, *others)))


def measure(
    image: bytes,
    setting: Setting,
    program: Program,
    user: Credentials,
    clock: Clock,
    directory: str = "/",
) -> Outcome:
    """Let `program` make its calls, as `user`, on a copy of `image`; count up to a last sync.

    `image` was cleanly unmounted; in memory is at first what a mount reads, and the way
    to `directory`, where the calls begin.  `clock` gives ns since 1970.  Raises what
    chdir(2) does.
    """
    device = MemoryDevice(bytearray(image))
    try:
        names = _prepare(device, setting, clock)
        volume = _mount(device, setting, clock)
    except OSError as error:
        return Outcome(setting, trouble=error.strerror or str(error))
    tally = _Tally()
    fs = FileSystem(volume, process=DeeperTable(names).add(volume, user))
    fs.process.table.observers.append(CallObserver(volume))
    if directory != "/":  # where a process begins: the walk there would only fill the cache
        fs.chdir(directory)
    volume.record(tally)
    has_gone_well = program(fs)
    fs.sync()
    volume.stop_recording()
    fs.unmount()
    if not has_gone_well:
        return Outcome(setting, trouble="a command failed")
    return Outcome(setting, tally.totals, tally.blocks)


def _prepare(device: MemoryDevice, setting: Setting, clock: Clock) -> list[bytes]:
    """Give the image its journal and its depth; the names above the tree."""
    has_journal = bool(read_superblock(device).feature_compat & FEATURE_COMPAT_JOURNAL)
    if has_journal != (setting.journal == "on"):
        change = remove_journal if has_journal else add_journal
        change(device, clock())
    if setting.depth == "1":
        return []
    volume = Volume(device, clock=clock, commit_interval=None)
    with FileSystem(volume, _ROOT) as fs:
        return move_down(fs, int(setting.depth) - 1)


def _mount(device: MemoryDevice, setting: Setting, clock: Clock) -> TracedVolume:
    volume = _VOLUMES[setting.cache](
        device, clock=clock, sync=setting.write == "through", commit_interval=None
    )
    volume.atime = setting.atime  # a cold volume takes no such option: the figures set it
    return volume


class _Tally:
    """Adds up the accesses of a recording."""

    def __init__(self) -> None:
        self.totals = Totals()
        self._read: Counter[Kind] = Counter()
        self._written: Counter[Kind] = Counter()

    def __call__(self, _call: TracedCall, events: list[Event]) -> None:
        """A call has ended."""
        self.totals = self.totals.plus(totals_of(events))
        for event in events:
            counter = self._read if event.operation == "read" else self._written
            # several inodes of one block are one block
            for (kind, _), blocks in {(p.kind, p.block): p.blocks for p in event.parts}.items():
                counter[kind] += blocks

    @property
    def blocks(self) -> dict[Kind, Blocks]:
        """Blocks of each kind that was accessed."""
        kinds = sorted(self._read.keys() | self._written.keys())
        return {kind: Blocks(self._read[kind], self._written[kind]) for kind in kinds}
