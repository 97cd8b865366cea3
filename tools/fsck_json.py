"""What fsck.vsfs --json prints; the keys are described in docs/FSCK.md."""

from __future__ import annotations

import json
import os
from typing import Any

from vsfs.fsck import Edit, Evidence, Finding, Rule
from vsfs.layout import Geometry
from vsfs.rawimage import shown

from .fsck_outcome import Outcome, Usage

Values = dict[str, Any]


def document(outcome: Outcome) -> str:
    """One JSON object with all that is known."""
    report, geometry, usage = outcome.report, outcome.geometry, outcome.usage
    values = {
        "image": os.fsencode(outcome.image).decode("utf-8", "backslashreplace"),
        "mode": outcome.mode.value,
        "status": int(outcome.status),
        "error": None if outcome.error is None else str(outcome.error),
        "mounted": outcome.mounted,
        "checked": report is not None,
        "geometry": None if geometry is None else _geometry(geometry),
        "in_use": None if usage is None else _usage(usage),
        "directories": None if report is None else report.directories,
        "found": len(outcome.findings),
        "repaired": outcome.repaired,
        "findings": [_finding(finding, outcome) for finding in outcome.findings],
    }
    return json.dumps(values, indent=2)


def _geometry(geometry: Geometry) -> Values:
    return {
        "block_size": geometry.block_size,
        "block_count": geometry.block_count,
        "inode_count": geometry.inode_count,
        "inode_bitmap_start": geometry.inode_bitmap_start,
        "data_bitmap_start": geometry.data_bitmap_start,
        "inode_table_start": geometry.inode_table_start,
        "data_start": geometry.data_start,
    }


def _usage(usage: Usage) -> Values:
    return {
        "inodes": usage.inodes,
        "inode_count": usage.inode_count,
        "blocks": usage.blocks,
        "block_count": usage.block_count,
    }


def _finding(finding: Finding, outcome: Outcome) -> Values:
    path = finding.path
    text = None if path is None else shown(path)
    is_exact = path is None or (text is not None and text.encode() == path)
    return {
        "rule": rule_values(finding.rule),
        "text": finding.text,
        "problem": finding.problem,
        "repair": finding.repair,
        "lost": finding.lost,
        "ino": finding.ino,
        "path": text,
        "path_hex": None if is_exact or path is None else path.hex(),
        "found": _evidence(finding.found),
        "expected": _evidence(finding.expected),
        "accepted": finding.is_repaired,
        "repaired": outcome.is_repaired(finding),
        "edits": [_edit(edit, outcome) for edit in finding.edits],
    }


def rule_values(rule: Rule) -> Values:
    """A rule with all its words."""
    return {
        "number": rule.number,
        "name": rule.name,
        "text": rule.text,
        "trusted": rule.trusted,
        "taught": rule.taught,
        "is_safe": rule.is_safe,
    }


def _evidence(evidence: Evidence) -> Values:
    return {
        "structure": evidence.structure,
        "block": evidence.block_no,
        "offset": evidence.offset,
        "bit": evidence.bit,
        "value": evidence.value,
    }


def _edit(edit: Edit, outcome: Outcome) -> Values:
    geometry = outcome.geometry
    return {
        "block": edit.block_no,
        "offset": edit.offset,
        "image_offset": None
        if geometry is None
        else edit.block_no * geometry.block_size + edit.offset,
        "kind": edit.kind.label,
        "before": edit.before.hex(),
        "after": edit.after.hex(),
    }
