"""Which function prints what each command of inspect_lookups describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .inspect_deleted import print_deleted, print_recovery
from .inspect_diff import print_diff
from .inspect_list import print_long, print_short, print_status
from .inspect_output import Printer
from .inspect_owner import print_names, print_owner, print_where
from .inspect_usage import print_fields, print_usage

PRINTERS: Final[dict[str, Callable[[Printer, dict[str, Any]], None]]] = {
    "diff": print_diff,
    "usage": print_usage,
    "fields": print_fields,
    "ls": print_short,
    "ls -l": print_long,
    "stat": print_status,
    "deleted": print_deleted,
    "recover": print_recovery,
    "owner": print_owner,
    "names": print_names,
    "where": print_where,
}
