"""Pass 0: the superblock, from which everything else is found (OSTEP 40.2).

First it becomes known what the superblock should say, in this order:

1. its checksum is right and its fields agree: as it stands (unless they lead to no
   root directory, and other ones do);
2. one byte is wrong: the checksum says which, and what it was;
3. the geometry is found again (``geometry_search``).  If with it the stored
   checksum is right, all other fields are proved; if not, they are kept as far as
   they make sense.

Then each field that differs is a finding.  All of them are asked about first: a
superblock is never left half-written by a crash, since it is one sector, so what
is wrong here has another cause.  Whether the image is cut off is looked at last,
as is known only then how long it was.

The free counts and the state belong to the end of the check (``bitmaps``).
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Final, NamedTuple, NoReturn
from uuid import UUID

from vsfs.device import Kind
from vsfs.errors import Corrupt, UnknownFeature
from vsfs.fsck.context import Change, Check, Decide
from vsfs.fsck.crc import find_wrong_byte
from vsfs.fsck.cut_off import report_cut, shortened
from vsfs.fsck.findings import Evidence, Rule, rule
from vsfs.fsck.geometry_search import Fit, Search, is_possible
from vsfs.fsck.overlay import Overlay
from vsfs.fsck.superblock_fields import field_change, field_evidence, is_label, refuse, shown
from vsfs.layout import (
    FEATURE_COMPAT_JOURNAL,
    FEATURE_INCOMPAT_RECOVER,
    INODE_SIZE,
    KNOWN_INCOMPAT,
    KNOWN_RO_COMPAT,
    MAGIC,
    STATE_CLEAN,
    STATE_MOUNTED,
    SUPERBLOCK_SIZE,
    VERSION,
    Geometry,
    InodeRecord,
    Superblock,
    decode_superblock,
    encode_superblock,
)
from vsfs.validate import SUPERBLOCK_OFFSET
from vsfs.validate import check_superblock as require_superblock

_TAUGHT: Final = "OSTEP 40.2 Overall Organization"
_ELSEWHERE: Final = (
    "What it describes: the root inode, the root directory and the ends of the bitmaps, and the "
    "superblock's own checksum where it is right with the new value."
)

MAGIC_WRONG = rule(
    101,
    "superblock-magic",
    'The superblock starts with the letters "VSFS".',
    _ELSEWHERE,
    _TAUGHT,
    is_safe=False,
)
VERSION_WRONG = rule(
    102, "superblock-version", "The version is 1.", _ELSEWHERE, _TAUGHT, is_safe=False
)
FEATURES_WRONG = rule(
    103,
    "superblock-features",
    "The feature sets have only bits that exist: a journal, and one that is to be replayed.",
    _ELSEWHERE,
    _TAUGHT,
    is_safe=False,
)
GEOMETRY_WRONG = rule(
    104,
    "superblock-geometry",
    "The sizes and starts in the superblock say where the five regions are.",
    _ELSEWHERE,
    _TAUGHT,
    is_safe=False,
)
INODE_SIZE_WRONG = rule(
    105, "superblock-inode-size", "An inode has 256 bytes.", _ELSEWHERE, _TAUGHT, is_safe=False
)
IDENTITY_WRONG = rule(
    106,
    "superblock-identity",
    "UUID, label, times, counts and reserved bytes are what was written, and the UUID is not 0.",
    "The checksum, where it is right with another value; otherwise nothing is known of them.",
    _TAUGHT,
    is_safe=False,
)
CHECKSUM_WRONG = rule(
    107,
    "superblock-checksum",
    "The superblock's checksum is the CRC-32 of the 508 bytes before it.",
    "The fields, since the geometry agrees with what it describes.",
    "OSTEP 45.3 Detecting Corruption: The Checksum",
    is_safe=False,
)
LOST = rule(
    108,
    "superblock-lost",
    "Block 0 holds the superblock.",
    "What it described: the geometry follows from the root inode, the root directory and the "
    "bitmaps, or is one that mkfs makes for this size and agrees with them.",
    _TAUGHT,
    is_safe=False,
)
_RULE_OF: Final[dict[str, Rule]] = {
    "magic": MAGIC_WRONG,
    "version": VERSION_WRONG,
    "feature_compat": FEATURES_WRONG,
    "feature_incompat": FEATURES_WRONG,
    "feature_ro_compat": FEATURES_WRONG,
    "inode_size": INODE_SIZE_WRONG,
    **dict.fromkeys(Geometry.__slots__, GEOMETRY_WRONG),
}
#: Fields whose right value the search knows; where fewer agree, the sector is not ours.
_KNOWN: Final = ("magic", "version", "inode_size", *Geometry.__slots__)
_ENOUGH_KNOWN: Final = len(_KNOWN) // 2
_CHECKSUM_AT: Final = SUPERBLOCK_OFFSET["checksum"]
#: The feature sets that there are: plain, with a journal, with one to be replayed.
_FEATURES: Final = (
    (0, 0, 0),
    (FEATURE_COMPAT_JOURNAL, 0, 0),
    (FEATURE_COMPAT_JOURNAL, FEATURE_INCOMPAT_RECOVER, 0),
)
#: With a wrong checksum, versions up to this are believed rather than repaired.
_FUTURE_VERSIONS: Final = 255


class Restored(NamedTuple):
    """What the superblock should say, and how that is known.

    `is_proved`: the stored checksum is right with it.  `fit` is there when the
    geometry had to be found.
    """

    superblock: Superblock
    is_proved: bool
    fit: Fit | None = None


def check_superblock(overlay: Overlay, decide: Decide, now_ns: int) -> Check:
    """Find the superblock, report what is wrong with it, and start the check.

    Raises NotVsfs (EINVAL), UnknownFeature (EOPNOTSUPP), and Corrupt (EUCLEAN) if
    no geometry fits, no data block is left, or a repair was declined without
    which nothing else can be found.
    """
    head = overlay.read(0, min(SUPERBLOCK_SIZE, overlay.size), 0, Kind.SUPERBLOCK)
    if len(head) < SUPERBLOCK_SIZE:
        require_superblock(head, overlay.size)  # raises NotVsfs
    restored = _restored(overlay, head, now_ns)
    whole = restored.superblock
    present = shortened(whole, overlay.size)
    overlay.set_block_size(whole.block_size)
    check = Check(overlay, present, decide, now_ns=now_ns)
    _report(check, head, restored)
    if present is not whole:
        report_cut(check, whole)
    return check


# -- what it should say ---------------------------------------------------------


def _restored(overlay: Overlay, head: bytes, now_ns: int) -> Restored:
    stored = decode_superblock(head)
    if _is_usable(stored, head):
        return _contradicted(overlay, stored, now_ns) or Restored(stored, is_proved=True)
    corrected = _without_wrong_byte(head)
    if corrected is not None:
        return Restored(corrected, is_proved=True)
    return _found_again(overlay, head, stored, now_ns)


def _contradicted(overlay: Overlay, stored: Superblock, now_ns: int) -> Restored | None:
    """Another geometry that fits all there is, where the stored one leads to no root.

    A right checksum over wrong numbers is not damage but somebody's work, and to
    believe it would cost every file.
    """
    search = Search(overlay)
    if search.root(stored.geometry) is not None:
        return None
    for geometry in search.candidates(stored.geometry):
        fit = search.fit(geometry)
        if fit.is_perfect:
            return Restored(_renewed(search, stored, geometry, now_ns), is_proved=False, fit=fit)
    return None


def _is_usable(superblock: Superblock, head: bytes) -> bool:
    """Whether the checksum is right and the geometry makes sense.

    Raises UnknownFeature for a sound superblock of something newer.
    """
    if superblock.magic != MAGIC or zlib.crc32(head[:_CHECKSUM_AT]) != superblock.checksum:
        return False
    if superblock.version != VERSION or superblock.feature_incompat & ~KNOWN_INCOMPAT:
        require_superblock(head, len(head))  # raises UnknownFeature
    unknown = superblock.feature_ro_compat & ~KNOWN_RO_COMPAT
    if unknown:
        raise UnknownFeature(
            f"the image has features that this program may not write next to "
            f"(read-only compatible feature bits {unknown:#x}); check it with a newer vsfs"
        )
    return superblock.inode_size == INODE_SIZE and is_possible(superblock.geometry)


def _without_wrong_byte(head: bytes) -> Superblock | None:
    """The superblock with the one byte put right that its checksum does not fit.

    None if more than one byte is wrong.
    """
    stored = decode_superblock(head)
    body = bytearray(head[:_CHECKSUM_AT])
    difference = zlib.crc32(body) ^ stored.checksum
    wrong = find_wrong_byte(bytes(body), stored.checksum)
    if wrong is not None:
        body[wrong[0]] ^= wrong[1]
    elif sum(byte > 0 for byte in difference.to_bytes(4, "little")) != 1:
        return None  # it is not a byte of the checksum itself, either
    sound = bytes(body) + zlib.crc32(body).to_bytes(4, "little")
    superblock = decode_superblock(sound)
    return superblock if _is_usable(superblock, sound) else None


def _found_again(overlay: Overlay, head: bytes, stored: Superblock, now_ns: int) -> Restored:
    """The superblock with the geometry that fits the rest of the image best.

    Raises as :func:`check_superblock` does when none does.
    """
    search = Search(overlay)
    if _is_plausible(stored, stored.geometry) and is_possible(stored.geometry):
        fit = search.fit(stored.geometry)
        if fit.is_perfect:  # so it is something else that the checksum does not fit
            new = _renewed(search, stored, stored.geometry, now_ns)
            return Restored(new, is_proved=False, fit=fit)
    candidates = search.candidates(stored.geometry)
    for geometry in candidates:
        proved = _proved(stored, geometry)
        if proved is not None:
            return Restored(proved, is_proved=True, fit=search.fit(geometry))
    if stored.magic == MAGIC and VERSION < stored.version <= _FUTURE_VERSIONS:
        require_superblock(head, overlay.size)  # raises UnknownFeature
    best: Fit | None = None
    most = 0
    for geometry in candidates:
        fit = search.fit(geometry)
        points = fit.points + _agreement(stored.geometry, geometry)
        if (fit.is_enough or _is_plausible(stored, geometry)) and points > most:
            best, most = fit, points
    if best is None:
        _give_up(head, stored, overlay.size)
    return Restored(_renewed(search, stored, best.geometry, now_ns), is_proved=False, fit=best)


def _agreement(stored: Geometry, geometry: Geometry) -> int:
    return sum(getattr(stored, name) == getattr(geometry, name) for name in Geometry.__slots__)


def _is_plausible(stored: Superblock, geometry: Geometry) -> bool:
    """Whether this is the geometry of a superblock in which nothing looks wrong."""
    constants: tuple[object, ...] = (stored.magic, stored.version, stored.inode_size)
    return stored.geometry == geometry and constants == (MAGIC, VERSION, INODE_SIZE)


def _give_up(head: bytes, stored: Superblock, size: int) -> NoReturn:
    if stored.magic != MAGIC:
        require_superblock(head, size)  # raises NotVsfs
    raise Corrupt(
        "superblock",
        0,
        0,
        "numbers that do not fit together",
        "some that fit the image; no root inode and no geometry of mkfs do either, "
        "so nothing in the image can be found",
    )


def _features(superblock: Superblock) -> tuple[int, int, int]:
    return (
        superblock.feature_compat,
        superblock.feature_incompat,
        superblock.feature_ro_compat,
    )


def _proved(stored: Superblock, geometry: Geometry) -> Superblock | None:
    """`stored` with this geometry, if its checksum is right then."""
    values = {name: getattr(geometry, name) for name in Geometry.__slots__}
    known = stored._replace(magic=MAGIC, version=VERSION, inode_size=INODE_SIZE, **values)
    for state in dict.fromkeys((stored.state, STATE_CLEAN, STATE_MOUNTED)):
        for reserved in (stored.reserved, b""):
            for compat, incompat, ro_compat in dict.fromkeys((_features(stored), *_FEATURES)):
                trial = known._replace(
                    state=state,
                    reserved=reserved,
                    feature_compat=compat,
                    feature_incompat=incompat,
                    feature_ro_compat=ro_compat,
                )
                data = encode_superblock(trial)
                if int.from_bytes(data[_CHECKSUM_AT:], "little") == stored.checksum:
                    superblock = decode_superblock(data)
                    return superblock if _is_usable(superblock, data) else None
    return None


def _renewed(search: Search, stored: Superblock, geometry: Geometry, now_ns: int) -> Superblock:
    """A superblock for `geometry` with what makes sense of the stored one."""
    values = {name: getattr(geometry, name) for name in Geometry.__slots__}
    has_journal = search.has_journal(geometry)
    features = _features(stored)
    if features not in _FEATURES or bool(features[0]) != has_journal:
        features = (FEATURE_COMPAT_JOURNAL if has_journal else 0, 0, 0)
    compat, incompat, ro_compat = features
    new = stored._replace(
        magic=MAGIC,
        version=VERSION,
        feature_compat=compat,
        feature_incompat=incompat,
        feature_ro_compat=ro_compat,
        inode_size=INODE_SIZE,
        reserved=b"",
        **values,
    )
    if _is_lost(stored, new):
        size = geometry.block_size
        new = new._replace(
            state=STATE_CLEAN,
            free_block_count=search.count_zeroes(
                geometry.data_bitmap_start, geometry.data_blocks, size
            ),
            free_inode_count=search.count_zeroes(
                geometry.inode_bitmap_start, geometry.inode_count, size
            ),
        )
        if not _has_identity(stored):
            new = _anonymous(new, search.root(geometry), now_ns)
    if not any(new.uuid):
        new = new._replace(uuid=_derived_uuid(search, geometry))
    if not is_label(new.label):
        new = new._replace(label=b"")
    return decode_superblock(encode_superblock(new))


def _is_lost(stored: Superblock, new: Superblock) -> bool:
    """Whether so little of what is known stands there that it is no superblock."""
    known = [getattr(stored, name) == getattr(new, name) for name in _KNOWN]
    return known.count(True) < _ENOUGH_KNOWN


def _has_identity(stored: Superblock) -> bool:
    """Whether the second part of the sector looks as a superblock's does."""
    return any(stored.uuid) and is_label(stored.label) and not any(stored.reserved)


def _anonymous(new: Superblock, root: InodeRecord | None, now_ns: int) -> Superblock:
    """`new` without anything of the sector that stood there; born with its root."""
    born_ns = now_ns if root is None else root.btime_ns
    if not -(2**63) <= born_ns < 2**63:  # the superblock's times have no epochs
        born_ns = now_ns
    return new._replace(
        uuid=b"",
        label=b"",
        created_ns=born_ns,
        mounted_ns=0,
        written_ns=now_ns,
        checked_ns=now_ns,
        mount_count=0,
    )


def _derived_uuid(search: Search, geometry: Geometry) -> bytes:
    """A UUID that follows from the image, so that the same image gets the same one."""
    digest = hashlib.sha256(repr(geometry).encode() + search.fingerprint(geometry)).digest()
    return UUID(bytes=digest[:16], version=4).bytes


# -- findings -------------------------------------------------------------------


def _report(check: Check, head: bytes, restored: Restored) -> None:
    """A finding for each field that differs, or one for a superblock that is lost."""
    stored, new = decode_superblock(head), restored.superblock
    names = [n for n in stored._fields if getattr(stored, n) != getattr(new, n)]
    if not names:
        return
    if _is_lost(stored, new):
        _report_lost(check, head, restored)
        return
    sealed = encode_superblock(new)
    was_sealed = zlib.crc32(head[:_CHECKSUM_AT]) == stored.checksum
    wrong = [name for name in names if name != "checksum"]
    for name in wrong:
        # the checksum was right for what stands there: it follows the last change
        last = was_sealed and name == wrong[-1]
        _report_field(check, stored, restored, name, [field_change("checksum", sealed)] * last)
    if "checksum" in names and not was_sealed:
        _report_checksum(check, stored, restored)


def _report_field(
    check: Check, stored: Superblock, restored: Restored, name: str, more: list[Change]
) -> None:
    new = restored.superblock
    found = field_evidence(name, getattr(stored, name))
    value = shown(name, getattr(new, name))
    which = _RULE_OF.get(name, IDENTITY_WRONG)
    if restored.is_proved:
        expected = field_evidence("checksum", new.checksum)
        because = f"the checksum is right with {value} there"
    else:
        expected = _strongest(restored, name)
        because = _because(which, expected, value)
    accepted = check.report(
        which,
        f"the superblock's field {name} is {found.value}, but {because}",
        found=found,
        expected=expected,
        repair=f"set it to {value}",
        changes=[field_change(name, encode_superblock(new)), *more],
        lost=f"the {name}" if which is IDENTITY_WRONG and not restored.is_proved else None,
    )
    if not accepted and which is not IDENTITY_WRONG:
        refuse(found, value)


def _because(which: Rule, expected: Evidence, value: str) -> str:
    if which is IDENTITY_WRONG:
        return "that cannot be, and the superblock's checksum is wrong"
    if which in (MAGIC_WRONG, VERSION_WRONG, FEATURES_WRONG, INODE_SIZE_WRONG):
        return f"a filesystem of version 1 is there: {_seen(expected)}"
    return f"{value} fits the image: {_seen(expected)}"


def _seen(evidence: Evidence) -> str:
    return f"{evidence.structure} ({evidence.place}) is {evidence.value}"


def _strongest(restored: Restored, name: str) -> Evidence:
    """What speaks most for the geometry; for a bitmap or count, its own evidence."""
    fit = restored.fit
    assert fit is not None, "what was not found again is proved"
    about = {"inode_count": "inode bitmap", "inode_bitmap_start": "inode bitmap",
             "block_count": "data bitmap", "data_bitmap_start": "data bitmap",
             "data_start": "inode 2 field direct[0]"}.get(name)  # fmt: skip
    for evidence in fit.evidence:
        if evidence.structure == about:
            return evidence
    own = field_evidence(name, getattr(restored.superblock, name))
    return fit.evidence[0] if fit.evidence else own


def _report_checksum(check: Check, stored: Superblock, restored: Restored) -> None:
    """The checksum is wrong by itself, or some field is and nobody knows which."""
    new = restored.superblock
    found = field_evidence("checksum", stored.checksum)
    lost = None
    if not restored.is_proved:
        lost = "which byte it was; label, UUID and times are taken as they are"
    check.report(
        CHECKSUM_WRONG,
        f"the superblock's checksum is {found.value}, but its bytes have {new.checksum:#010x}",
        found=found,
        expected=Evidence("superblock", 0, 0, f"508 bytes with CRC-32 {new.checksum:#010x}"),
        repair=f"set it to {new.checksum:#010x}",
        changes=[field_change("checksum", encode_superblock(new))],
        lost=lost,
    )


def _report_lost(check: Check, head: bytes, restored: Restored) -> None:
    stored, new, fit = decode_superblock(head), restored.superblock, restored.fit
    assert fit is not None, "a superblock that is lost was found again"
    geometry = new.geometry
    basis = "; ".join(map(_seen, fit.evidence[:4]))
    value = "zeroes" if not any(head) else f"bytes that start with {head[:4].hex(' ')}"
    found = Evidence("superblock", 0, 0, value)
    accepted = check.report(
        LOST,
        f"block 0 holds no superblock ({value}), but a filesystem of {geometry.block_count} "
        f"blocks of {geometry.block_size} bytes with {geometry.inode_count} inodes is there, as "
        f"can be seen from: {basis}",
        found=found,
        expected=fit.evidence[0],
        repair="write a new superblock",
        changes=[Change(0, 0, encode_superblock(new), Kind.SUPERBLOCK)],
        lost=None if stored.uuid == new.uuid else "label and UUID (it gets a new one), and times",
    )
    if not accepted:
        refuse(found, "a superblock")
