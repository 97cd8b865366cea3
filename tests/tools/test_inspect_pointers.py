"""The pointer tree of an inode, against the pointers themselves."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest
from vsfs_tools.inspect_pointers import Node, pointer_tree

import vsfs
from tests.test_describe import image_with, put
from vsfs.describe import describe_inode
from vsfs.layout import get_pointers
from vsfs.rawimage import RawImage


def sparse(fs: vsfs.FileSystem) -> None:
    """One block through each kind of pointer, and holes between them."""
    per_block = 1024
    for block in (0, 5, 12 + 7, 12 + per_block + 3 * per_block + 9, 12 + per_block + per_block**2):
        put(fs, "/sparse", b"x", block * 4096)
    put(fs, "/late", b"x", 11 * 4096)
    put(fs, "/late", b"x", 30 * 4096 * per_block)


def flat(nodes: list[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from flat(node.below)


@pytest.mark.parametrize("path", [b"/sparse", b"/late"])
def test_a_node_stands_below_the_block_that_points_to_it(path: bytes) -> None:
    image = RawImage(image_with(sparse))
    values = describe_inode(image, image.resolve(path))
    for node in flat(pointer_tree(values)):
        if node.role != "indirect":
            continue
        pointers = get_pointers(image.block(node.block or 0), 0, 1024)
        for below in node.below:
            first = int(below.label.strip("[]").split("-")[0])
            assert pointers[first] == (below.block or 0)


@pytest.mark.parametrize("path", [b"/sparse", b"/late"])
def test_every_block_and_hole_of_the_file_is_in_the_tree_once(path: bytes) -> None:
    image = RawImage(image_with(sparse))
    ino = image.resolve(path)
    values = describe_inode(image, ino)
    nodes = [node for node in flat(pointer_tree(values)) if node.role in ("data", "hole")]
    assert nodes[0].file_block == 0
    end = 0
    for node in nodes:
        assert node.file_block == end
        end += node.count
    assert end == -(-image.inode(ino).size // 4096)
    labels = [node.label for node in pointer_tree(values)]
    assert len(labels) == len(set(labels))


def test_a_file_without_blocks_has_no_tree() -> None:
    image = RawImage(image_with(lambda fs: fs.mknod("/pipe", stat.S_IFIFO | 0o600)))
    values = describe_inode(image, image.resolve(b"/pipe"))
    assert {node.role for node in pointer_tree(values)} == {"none"}
