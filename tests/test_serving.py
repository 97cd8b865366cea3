"""What both adapters share, without a mount."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from tests.support.layers import Layers
from vsfs.serving import root_may, with_needed_checks


@pytest.mark.parametrize(
    ("user", "options", "checked"),
    [
        (0, {}, False),
        (0, {"allow_other": True}, True),
        (1000, {}, True),
        (0, {"default_permissions": True}, True),
        (1000, {"allow_other": True, "default_permissions": False}, False),
    ],
)
def test_the_kernel_checks_permissions_unless_told_or_only_root_gets_in(
    monkeypatch: pytest.MonkeyPatch, user: int, options: dict[str, Any], checked: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    chosen = with_needed_checks({"ro": True} | options)
    assert chosen.pop("default_permissions", False) is checked
    assert set(chosen) == {"ro"} | (set(options) - {"default_permissions"})


@pytest.mark.parametrize(
    ("mode", "wanted", "allowed"),
    [
        (stat.S_IFREG, os.R_OK | os.W_OK, True),
        (stat.S_IFREG | 0o666, os.X_OK, False),
        (stat.S_IFREG | 0o010, os.R_OK | os.X_OK, True),
        (stat.S_IFDIR, os.R_OK | os.X_OK, True),
    ],
)
def test_root_may_do_all_but_execute_what_nobody_can(mode: int, wanted: int, allowed: bool) -> None:
    inode = Layers().new_file()
    inode.mode = mode
    assert root_may(inode, wanted) is allowed
