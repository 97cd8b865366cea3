"""The pictures: sound SVG for any image, with everything inside their frame."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from vsfs_tools import inspect

import vsfs
from tests.fsck.mutants import nth
from tests.tools.test_inspect import build, refused

PICTURES = [
    ["layout"],
    ["layout", "--owner"],
    ["inode", "/foo/large"],
    ["inode", "/sparse"],
    ["inode", "0"],
    ["path", "/foo/bar"],
    ["path", "/soft/nowhere"],
    ["path", "/caf\udce9"],
    ["path", "/new\nline\x1b[31m"],
]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("svg") / "disk.img"
    build(path)
    return path


def drawn(image: Path, command: list[str], out: Path) -> ElementTree.Element:
    assert inspect.main([str(image), *command, "--svg", str(out)]) == 0
    return ElementTree.fromstring(out.read_text(encoding="utf-8"))


def shown(picture: ElementTree.Element) -> str:
    return "\n".join(text.text or "" for text in picture.iter(f"{SVG}text"))


@pytest.mark.parametrize("command", PICTURES, ids=ascii)
def test_a_picture_is_whole_and_within_its_frame(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    picture = drawn(image, command, tmp_path / "out.svg")
    assert capsys.readouterr() == ("", "")
    width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
    for shape in picture.iter():
        x, y = float(shape.get("x", 0)), float(shape.get("y", 0))
        assert 0 <= x + float(shape.get("width", 0)) <= width
        assert 0 <= y + (0 if shape is picture else float(shape.get("height", 0))) <= height
        for text in shape.text or "":
            assert text == "\n" or text.isprintable()


def test_every_colour_of_a_picture_is_declared(image: Path, tmp_path: Path) -> None:
    picture = drawn(image, ["layout"], tmp_path / "out.svg")
    (style,) = picture.iter(f"{SVG}style")
    classes = {name for shape in picture.iter() for name in shape.get("class", "").split()}
    assert classes - set(re.findall(r"\.([\w-]+)\{", style.text or "")) == set()
    assert "prefers-color-scheme:dark" in (style.text or "")


def test_the_picture_says_what_the_text_says(image: Path, tmp_path: Path) -> None:
    words = shown(drawn(image, ["inode", "/foo/large"], tmp_path / "a.svg"))
    assert "5 * 256 = 1280: block 3 + 1280 // 4096 = 3, offset 1280 % 4096 = 1280" in words
    assert "file blocks 0-11" in words
    words = shown(drawn(image, ["path", "/foo/bar"], tmp_path / "b.svg"))
    assert "bar -> inode 4" in words
    assert "a cold walk reads 3 blocks" in words


def test_the_picture_of_a_large_image_is_small(tmp_path: Path) -> None:
    large = tmp_path / "large.img"
    vsfs.format_image(large, 2**40, inode_count=100_000)
    drawn(large, ["layout"], tmp_path / "out.svg")
    assert (tmp_path / "out.svg").stat().st_size < 150_000


def test_a_picture_goes_to_standard_output_too(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect.main([str(image), "layout", "--svg", "-"]) == 0
    assert ElementTree.fromstring(capsys.readouterr().out).tag == f"{SVG}svg"


def test_a_picture_never_overwrites_the_image(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = image.read_bytes()
    said = refused(capsys, [str(image), "layout", "--svg", str(image)], 2)
    assert "overwrite the image" in said
    assert image.read_bytes() == before


def test_a_picture_that_cannot_be_written_names_its_file(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, [str(image), "layout", "--svg", str(tmp_path / "none" / "out.svg")])
    assert "out.svg cannot be written: No such file or directory" in said
    assert "two outputs" in refused(capsys, [str(image), "layout", "--svg", "x", "--json"], 2)


@pytest.mark.parametrize("number", range(20))
def test_a_damaged_image_is_drawn_or_refused_by_a_sentence(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "disk.img", tmp_path / "out.svg"
    path.write_bytes(nth(5, number)[1].data)
    for command in (["layout"], ["inode", "7"], ["path", "/dir/sub/leaf"]):
        status = inspect.main([str(path), *command, "--svg", str(out)])
        assert status in (0, 1)
        assert "Traceback" not in capsys.readouterr().err
        if status == 0:
            ElementTree.fromstring(out.read_text(encoding="utf-8"))
