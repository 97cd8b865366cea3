"""Who may import whom: each module knows only the layers below it.

The table is the one of the design, low to high.  It is compared with every
import that stands in a module's source, also inside functions and for type
checkers, so that no layer reaches up and nothing heavy loads early.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

#: Module -> the highest modules it may import; what these may, it may, too.
MAY_IMPORT: Final[dict[str, tuple[str, ...]]] = {
    "vsfs.words": (),
    "vsfs.errors": (),
    "vsfs.layout": ("vsfs.errors",),
    "vsfs.validate": ("vsfs.layout",),
    "vsfs.lock": ("vsfs.errors",),
    "vsfs.device": ("vsfs.lock",),
    "vsfs.buffer": ("vsfs.device", "vsfs.layout"),
    "vsfs.journal": ("vsfs.buffer", "vsfs.validate"),
    "vsfs.mkfs": ("vsfs.journal",),
    "vsfs.tune": ("vsfs.mkfs",),
    "vsfs.rawimage": ("vsfs.journal", "vsfs.words"),
    "vsfs.fsck.findings": ("vsfs.device",),
    "vsfs.fsck.overlay": ("vsfs.fsck.findings",),
    "vsfs.fsck.usage": (),
    "vsfs.fsck.crc": (),
    "vsfs.fsck.context": ("vsfs.fsck.overlay", "vsfs.fsck.usage", "vsfs.rawimage"),
    "vsfs.fsck.pointers": ("vsfs.fsck.context",),
    "vsfs.fsck.sizes": ("vsfs.fsck.pointers",),
    "vsfs.fsck.blocks": ("vsfs.fsck.sizes",),
    "vsfs.fsck.attributes": ("vsfs.fsck.blocks",),
    "vsfs.fsck.records": ("vsfs.fsck.context",),
    "vsfs.fsck.restore": ("vsfs.fsck.records", "vsfs.fsck.pointers"),
    "vsfs.fsck.entry_types": ("vsfs.fsck.records",),
    "vsfs.fsck.chains": ("vsfs.fsck.records",),
    "vsfs.fsck.dots": ("vsfs.fsck.chains",),
    "vsfs.fsck.directories": ("vsfs.fsck.restore", "vsfs.fsck.dots", "vsfs.fsck.entry_types"),
    "vsfs.fsck.inode_fields": ("vsfs.fsck.entry_types",),
    "vsfs.fsck.sharing": ("vsfs.fsck.blocks", "vsfs.fsck.inode_fields", "vsfs.fsck.restore"),
    "vsfs.fsck.strays": ("vsfs.fsck.inode_fields", "vsfs.fsck.crc"),
    "vsfs.fsck.inodes": ("vsfs.fsck.strays", "vsfs.fsck.attributes"),
    "vsfs.fsck.journal": ("vsfs.fsck.inodes", "vsfs.journal"),
    "vsfs.fsck.lost_found": ("vsfs.fsck.restore",),
    "vsfs.fsck.tree": ("vsfs.fsck.lost_found",),
    "vsfs.fsck.links": ("vsfs.fsck.records",),
    "vsfs.fsck.bitmaps": ("vsfs.fsck.pointers",),
    "vsfs.fsck.state": ("vsfs.fsck.bitmaps",),
    "vsfs.fsck.geometry_search": ("vsfs.fsck.overlay", "vsfs.mkfs", "vsfs.validate"),
    "vsfs.fsck.superblock_fields": ("vsfs.fsck.context",),
    "vsfs.fsck.cut_off": ("vsfs.fsck.superblock_fields",),
    "vsfs.fsck.superblock": ("vsfs.fsck.cut_off", "vsfs.fsck.crc", "vsfs.fsck.geometry_search"),
    "vsfs.fsck.write": ("vsfs.fsck.findings", "vsfs.layout"),
    "vsfs.fsck": (
        "vsfs.fsck.superblock",
        "vsfs.fsck.inodes",
        "vsfs.fsck.journal",
        "vsfs.fsck.sharing",
        "vsfs.fsck.directories",
        "vsfs.fsck.tree",
        "vsfs.fsck.links",
        "vsfs.fsck.state",
        "vsfs.fsck.write",
    ),
    "vsfs.fsck.undo": ("vsfs.fsck",),
    "vsfs.recovery": ("vsfs.fsck",),
    "vsfs.bitmap": ("vsfs.buffer",),
    "vsfs.inode": ("vsfs.bitmap", "vsfs.validate"),
    "vsfs.blockmap": ("vsfs.inode",),
    "vsfs.fileio": ("vsfs.blockmap",),
    "vsfs.directory": ("vsfs.blockmap",),
    "vsfs.xattr": ("vsfs.inode",),
    "vsfs.openfiles": ("vsfs.inode",),
    "vsfs.mounting": (
        "vsfs.xattr",
        "vsfs.fileio",
        "vsfs.openfiles",
        "vsfs.recovery",
        "vsfs.journal",
    ),
    "vsfs.volume": ("vsfs.mounting", "vsfs.directory"),
    "vsfs.walk": ("vsfs.volume",),
    "vsfs.results": ("vsfs.inode",),
    "vsfs.process": ("vsfs.walk",),
    "vsfs.filecalls": ("vsfs.process", "vsfs.results"),
    "vsfs.filesystem": ("vsfs.filecalls",),
    "vsfs.describe": ("vsfs.rawimage",),
    "vsfs.describe_owner": ("vsfs.describe",),
    "vsfs.describe_path": ("vsfs.describe",),
    "vsfs.describe_uses": ("vsfs.describe_owner",),
    "vsfs.describe_layout": ("vsfs.describe_uses",),
    "vsfs.describe_where": ("vsfs.describe", "vsfs.blockmap"),
    "vsfs.compare": ("vsfs.rawimage",),
    "vsfs.describe_diff_inodes": ("vsfs.describe", "vsfs.compare"),
    "vsfs.describe_diff_files": ("vsfs.describe", "vsfs.compare"),
    "vsfs.describe_diff_blocks": ("vsfs.describe_diff_files", "vsfs.describe_diff_inodes"),
    "vsfs.describe_diff_story": ("vsfs.describe",),
    "vsfs.describe_diff": ("vsfs.describe_diff_blocks", "vsfs.describe_diff_story"),
    "vsfs.describe_block": ("vsfs.describe_owner",),
    "vsfs.describe_fragments": ("vsfs.describe",),
    "vsfs.describe_usage": ("vsfs.describe_owner", "vsfs.describe_fragments"),
    "vsfs.describe_deleted": ("vsfs.describe_owner",),
    "vsfs.describe_list": ("vsfs.describe_deleted",),
    "vsfs.describe_fields": ("vsfs.describe",),
    "vsfs.describe_journal": ("vsfs.describe_owner",),
    "vsfs.copying": ("vsfs.layout",),
    "vsfs.populate": ("vsfs.filesystem", "vsfs.copying", "vsfs.mkfs"),
    "vsfs.serving": ("vsfs.volume",),
    "vsfs.trace": ("vsfs.device",),
    "vsfs.trace_json": ("vsfs.trace",),
    "vsfs.trace_roles": ("vsfs.trace", "vsfs.volume"),
    "vsfs.trace_log": ("vsfs.mounting",),
    "vsfs.traced": ("vsfs.trace_log", "vsfs.trace_roles", "vsfs.process"),
    "vsfs.cold": ("vsfs.traced",),
    "vsfs.small": ("vsfs.traced",),
    "vsfs.deeper": ("vsfs.filesystem",),
    "vsfs.what_if": ("vsfs.cold", "vsfs.small", "vsfs.deeper", "vsfs.tune"),
    "vsfs.trace_replay": ("vsfs.cold",),
    "vsfs.timeline": ("vsfs.trace", "vsfs.words"),
    "vsfs.fuse_callbacks": ("vsfs.serving",),
    "vsfs.fuse_adapter": ("vsfs.fuse_callbacks",),
    "vsfs.fuse_trace": ("vsfs.fuse_adapter", "vsfs.traced"),
    "vsfs.llfuse_adapter": ("vsfs.serving",),
    "vsfs": ("vsfs.filesystem", "vsfs.mkfs"),
    "vsfs_tools": (),
    "vsfs_tools.sizes": (),
    "vsfs_tools.help_text": (),
    "vsfs_tools.messages": ("vsfs.errors",),
    "vsfs_tools.present": ("vsfs.lock", "vsfs_tools.messages"),
    "vsfs_tools.inspect_output": ("vsfs.words",),
    "vsfs_tools.inspect_layout": ("vsfs_tools.inspect_output", "vsfs_tools.sizes"),
    "vsfs_tools.inspect_blocks": ("vsfs_tools.inspect_output",),
    "vsfs_tools.inspect_fragments": ("vsfs_tools.inspect_output",),
    "vsfs_tools.inspect_journal": ("vsfs_tools.inspect_output",),
    "vsfs_tools.inspect_pointers": ("vsfs_tools.inspect_output",),
    "vsfs_tools.inspect_inode": ("vsfs_tools.inspect_pointers",),
    "vsfs_tools.inspect_path": ("vsfs_tools.inspect_output",),
    "vsfs_tools.inspect_text": (
        "vsfs_tools.inspect_path",
        "vsfs_tools.inspect_inode",
        "vsfs_tools.inspect_layout",
        "vsfs_tools.inspect_blocks",
        "vsfs_tools.inspect_fragments",
        "vsfs_tools.inspect_journal",
    ),
    "vsfs_tools.inspect_owner": ("vsfs_tools.inspect_blocks",),
    "vsfs_tools.inspect_diff": ("vsfs_tools.inspect_output",),
    "vsfs_tools.inspect_usage": ("vsfs_tools.inspect_output",),
    "vsfs_tools.inspect_deleted": ("vsfs_tools.inspect_blocks",),
    "vsfs_tools.inspect_list": ("vsfs_tools.inspect_deleted",),
    "vsfs_tools.inspect_lookups_text": (
        "vsfs_tools.inspect_list",
        "vsfs_tools.inspect_owner",
        "vsfs_tools.inspect_diff",
        "vsfs_tools.inspect_usage",
    ),
    "vsfs_tools.inspect_progress": ("vsfs.rawimage",),
    "vsfs_tools.inspect_arguments": ("vsfs.rawimage", "vsfs_tools.inspect_text"),
    "vsfs_tools.inspect_lookups": (
        "vsfs.describe_owner",
        "vsfs.describe_where",
        "vsfs.describe_diff",
        "vsfs.describe_fields",
        "vsfs.describe_usage",
        "vsfs.describe_list",
        "vsfs_tools.present",
        "vsfs_tools.inspect_arguments",
        "vsfs_tools.inspect_lookups_text",
    ),
    "vsfs_tools.inspect_svg": ("vsfs_tools.inspect_output",),
    "vsfs_tools.inspect_svg_layout": ("vsfs_tools.inspect_svg", "vsfs_tools.inspect_layout"),
    "vsfs_tools.inspect_svg_inode": ("vsfs_tools.inspect_svg", "vsfs_tools.inspect_pointers"),
    "vsfs_tools.inspect_svg_path": ("vsfs_tools.inspect_svg",),
    "vsfs_tools.inspect_pictures": (
        "vsfs_tools.inspect_svg_layout",
        "vsfs_tools.inspect_svg_inode",
        "vsfs_tools.inspect_svg_path",
        "vsfs.describe_block",
        "vsfs.describe_layout",
        "vsfs.describe_path",
        "vsfs_tools.inspect_arguments",
    ),
    "vsfs_tools.inspect": (
        "vsfs_tools.help_text",
        "vsfs_tools.inspect_pictures",
        "vsfs_tools.inspect_progress",
        "vsfs_tools.inspect_lookups",
        "vsfs.describe_block",
        "vsfs.describe_fragments",
        "vsfs.describe_journal",
        "vsfs_tools.present",
        "vsfs_tools.inspect_text",
    ),
    "vsfs_tools.fsck_outcome": ("vsfs.fsck",),
    "vsfs_tools.fsck_text": ("vsfs_tools.fsck_outcome", "vsfs_tools.inspect_output"),
    "vsfs_tools.fsck_json": ("vsfs_tools.fsck_outcome",),
    "vsfs_tools.fsck": (
        "vsfs.fsck.undo",
        "vsfs_tools.help_text",
        "vsfs_tools.present",
        "vsfs_tools.fsck_text",
        "vsfs_tools.fsck_json",
    ),
    "vsfs_tools.mkfs": (
        "vsfs",
        "vsfs.populate",
        "vsfs_tools.help_text",
        "vsfs_tools.messages",
        "vsfs_tools.sizes",
    ),
    "vsfs_tools.tune": (
        "vsfs",
        "vsfs.tune",
        "vsfs_tools.help_text",
        "vsfs_tools.present",
        "vsfs_tools.inspect_output",
        "vsfs_tools.sizes",
    ),
    "vsfs_tools.mount": (
        "vsfs.fuse_trace",
        "vsfs.llfuse_adapter",
        "vsfs.trace_replay",
        "vsfs.trace_json",
        "vsfs_tools.help_text",
        "vsfs_tools.messages",
    ),
    "vsfs_tools.timeline_text": ("vsfs.timeline", "vsfs_tools.inspect_output"),
    "vsfs_tools.timeline_svg": ("vsfs_tools.timeline_text", "vsfs_tools.inspect_svg"),
    "vsfs_tools.timeline_output": ("vsfs.trace_json", "vsfs_tools.timeline_svg"),
    "vsfs_tools.trace": ("vsfs_tools.present", "vsfs_tools.timeline_output"),
    "vsfs_tools.shell_words": (),
    "vsfs_tools.shell_commands": (
        "vsfs.copying",
        "vsfs.traced",
        "vsfs",
        "vsfs_tools.inspect_output",
    ),
    "vsfs_tools.shell_glob": ("vsfs_tools.shell_commands", "vsfs_tools.shell_words"),
    "vsfs_tools.shell_strace": ("vsfs_tools.shell_commands",),
    "vsfs_tools.shell_pictures": ("vsfs_tools.shell_strace",),
    "vsfs_tools.shell_processes": ("vsfs_tools.shell_pictures",),
    "vsfs_tools.shell_calls": (
        "vsfs.describe",
        "vsfs_tools.inspect_text",
        "vsfs_tools.shell_strace",
    ),
    "vsfs_tools.shell_files": ("vsfs_tools.shell_commands",),
    "vsfs_tools.shell_copy": ("vsfs_tools.shell_commands",),
    "vsfs_tools.shell_trace": (
        "vsfs.trace_replay",
        "vsfs_tools.shell_commands",
        "vsfs_tools.timeline_output",
    ),
    "vsfs_tools.what_if_output": ("vsfs.what_if", "vsfs_tools.inspect_output"),
    "vsfs_tools.shell_what_if": (
        "vsfs_tools.shell_commands",
        "vsfs_tools.what_if_output",
    ),
    "vsfs_tools.shell_run": (
        "vsfs_tools.messages",
        "vsfs_tools.shell_calls",
        "vsfs_tools.shell_copy",
        "vsfs_tools.shell_files",
        "vsfs_tools.shell_glob",
        "vsfs_tools.shell_processes",
        "vsfs_tools.shell_trace",
        "vsfs_tools.shell_what_if",
        "vsfs_tools.shell_words",
    ),
    "vsfs_tools.shell_prompt": ("vsfs_tools.shell_run",),
    "vsfs_tools.shell": ("vsfs.cold", "vsfs_tools.shell_prompt"),
    "vsfs_tools.demo": ("vsfs", "vsfs_tools.inspect"),
}

#: Package from elsewhere -> the modules that may import it.
OUTSIDE: Final[dict[str, set[str]]] = {
    "construct": {"vsfs.layout"},
    "fuse": {"vsfs.fuse_adapter", "vsfs.fuse_callbacks", "vsfs_tools.mount"},
    "llfuse": {"vsfs.llfuse_adapter", "vsfs_tools.mount"},
    "prompt_toolkit": {"vsfs_tools.shell_prompt"},
    "rich": {module for module in MAY_IMPORT if module.startswith("vsfs_tools.")},
}


def folder_of(package: str) -> Path:
    """Where `package` is installed."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent


def find_modules() -> dict[str, Path]:
    """The source of every module of both packages."""
    found = {}
    for package in ("vsfs", "vsfs_tools"):
        folder = folder_of(package)
        for source in sorted(folder.rglob("*.py")):
            parts = source.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = source
    return found


MODULES: Final = find_modules()


def targets(module: str, node: ast.AST) -> Iterator[str]:
    """The modules that one statement of `module` imports, by their full names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if not isinstance(node, ast.ImportFrom):
        return
    base = node.module or ""
    if node.level:
        is_package = MODULES[module].name == "__init__.py"
        above = module.split(".")[: -node.level + is_package or None]
        base = ".".join([*above, base] if base else above)
    for alias in node.names:
        name = f"{base}.{alias.name}"
        yield name if name in MODULES else base


def imports(module: str) -> set[str]:
    """Every module that `module` imports, wherever in its source."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    return {target for node in ast.walk(tree) for target in targets(module, node)}


def allowed(module: str) -> set[str]:
    """What the table lets `module` import, its own rows and all below them."""
    below: set[str] = set()
    for name in MAY_IMPORT[module]:
        below |= {name} | allowed(name)
    return below


def is_ours(name: str) -> bool:
    return name.partition(".")[0] in ("vsfs", "vsfs_tools")


def test_every_module_stands_in_the_table() -> None:
    missing = sorted(MODULES.keys() - MAY_IMPORT.keys())
    assert missing == [], (
        f"{', '.join(missing)}: not in MAY_IMPORT of {Path(__file__).name}; "
        "add a row that says which layers it may import, and one to the design's table"
    )


def test_the_table_has_no_module_that_is_gone() -> None:
    assert sorted(MAY_IMPORT.keys() - MODULES.keys()) == []


def test_each_row_of_the_table_names_only_rows_above_it() -> None:
    seen: set[str] = set()
    for module, names in MAY_IMPORT.items():
        assert set(names) <= seen, f"the row of {module} reaches up"
        seen.add(module)


@pytest.mark.parametrize("module", sorted(MODULES.keys() & MAY_IMPORT.keys()))
def test_a_module_imports_only_from_below(module: str) -> None:
    above = {name for name in imports(module) if is_ours(name)} - allowed(module)
    assert above == set(), f"{module} may not import {', '.join(sorted(above))}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_package_from_elsewhere_is_imported_only_where_it_belongs(module: str) -> None:
    outside = {name.partition(".")[0] for name in imports(module) if not is_ours(name)}
    outside -= sys.stdlib_module_names
    assert outside <= OUTSIDE.keys(), f"{module} needs a dependency that we do not have"
    misplaced = {name for name in outside if module not in OUTSIDE[name]}
    assert misplaced == set(), f"{module} may not import {', '.join(sorted(misplaced))}"


@pytest.mark.parametrize("package", sorted(OUTSIDE))
def test_each_dependency_is_used_where_it_may_be(package: str) -> None:
    """Otherwise the test above would pass for a reader of imports that sees none."""
    users = {module for module in MODULES for name in imports(module) if name.startswith(package)}
    assert users
    assert users <= OUTSIDE[package]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import vsfs.volume", {"vsfs.volume"}),
        ("from vsfs.volume import Volume", {"vsfs.volume"}),
        ("from vsfs import volume, Volume", {"vsfs.volume", "vsfs"}),
        ("from . import volume", {"vsfs.volume"}),
        ("from .volume import Volume as V", {"vsfs.volume"}),
        ("def f():\n    import fuse", {"fuse"}),
        ("if TYPE_CHECKING:\n    from rich.text import Text", {"rich.text"}),
    ],
)
def test_every_form_of_import_is_seen(statement: str, expected: set[str]) -> None:
    nodes = ast.walk(ast.parse(statement))
    assert {name for node in nodes for name in targets("vsfs.walk", node)} == expected


@pytest.mark.parametrize(
    "use",
    [
        "import vsfs",
        "from vsfs import *",  # every public name: they are loaded when first used
        "import vsfs.mkfs, vsfs.populate, vsfs.describe_block, vsfs.describe_fragments",
    ],
)
def test_using_the_library_loads_neither_fuse_nor_rich(use: str) -> None:
    late = {"fuse", "llfuse", "rich", "vsfs.serving"}
    script = f"{use}; import sys; print(*{late} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(folder_of("vsfs").parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


def test_no_folder_of_tests_takes_the_name_of_a_standard_module() -> None:
    taken = [
        name
        for name in sys.stdlib_module_names
        if str(Path(__file__).parent) in str(getattr(sys.modules.get(name), "__file__", ""))
    ]
    assert taken == []
