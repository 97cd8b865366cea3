"""docs/inspect.schema.json holds for the JSON of every command, key by key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from vsfs_tools import inspect
from vsfs_tools.inspect_lookups import LOOKUPS
from vsfs_tools.inspect_pictures import PICTURES

import vsfs
from tests.fsck.mutants import nth
from tests.support.documents import ROOT as REPOSITORY
from tests.tools.test_inspect import COMMANDS, build, build_waiting

SCHEMA: dict[str, Any] = json.loads((REPOSITORY / "docs" / "inspect.schema.json").read_text())
OTHERS = [
    ["owner", "0"],
    ["owner", "8"],
    ["names", "3"],
    ["names", "2"],
    ["where", "/foo/large", "50000"],
    ["where", "/soft", "2"],
    ["where", "7", "0"],
    ["ls"],
    ["ls", "--deleted"],
    ["ls", "-l", "/foo/bar"],
    ["stat", "/"],
    ["stat", "0"],
    ["deleted"],
    ["usage"],
    ["fields"],
    ["journal"],
]


def closed(value: Any) -> Any:
    """The schema without room for keys that it does not have."""
    if isinstance(value, list):
        return [closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: closed(item) for key, item in value.items()}
    if "properties" in value and "required" in value:
        found["additionalProperties"] = False
    return found


STRICT = closed(SCHEMA)


def check(values: Any, command: list[str]) -> None:
    name = command[0] if command else "everything"
    schema = {"$ref": f"#/$defs/{name}", "$defs": STRICT["$defs"]}
    jsonschema.Draft202012Validator(schema).validate(values)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("schema")
    build(folder / "disk.img")
    build_waiting(folder / "journal.img")
    paths = [folder / "disk.img", folder / "journal.img"]
    for number in range(4):
        paths.append(folder / f"broken-{number}.img")
        paths[-1].write_bytes(nth(7, number)[1].data)
    return paths


@pytest.mark.parametrize("command", [*COMMANDS, *OTHERS], ids=" ".join)
def test_json_is_as_the_schema_says(
    images: list[Path], capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    for path in images:
        inspect.main([str(path), *command, "--json"])
        printed = capsys.readouterr().out
        assert printed or path != images[0]
        if printed:
            check(json.loads(printed), command)


def test_a_difference_is_as_the_schema_says(
    images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = images
    second = first.with_name("later.img")
    second.write_bytes(first.read_bytes())
    with vsfs.FileSystem.open(second) as fs:
        fs.rename("/foo/bar", "/moved")
        fs.unlink("/sparse")
        fs.setxattr("/moved", "user.colour", b"red")
        fs.truncate("/foo/large", 100)
        fs.truncate("/foo/large", 100_000)
    for old, new in [(first, second), (second, first), *((first, other) for other in others)]:
        inspect.main([str(old), "diff", str(new), "--json"])
        printed = capsys.readouterr().out
        if printed:
            check(json.loads(printed), ["diff"])


def test_a_recovery_is_as_the_schema_says(
    images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with vsfs.FileSystem.open(images[0]) as fs:
        ino = fs.stat("/binary").st_ino
        fs.unlink("/binary")
    command = ["recover", str(ino), str(tmp_path / "out")]
    assert inspect.main([str(images[0]), *command, "--json"]) == 0
    check(json.loads(capsys.readouterr().out), command)
    assert inspect.main([str(images[0]), "deleted", "--json"]) == 0
    check(json.loads(capsys.readouterr().out), ["deleted"])


def test_every_command_has_its_schema() -> None:
    known = {name for name in inspect._COMMANDS if name is not None}
    assert known <= SCHEMA["$defs"].keys()
    assert {*PICTURES, *LOOKUPS} <= known


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_has_every_state_of_a_block() -> None:
    from vsfs.describe_uses import STATES

    assert list(SCHEMA["$defs"]["holds"]["properties"]) == list(STATES)
