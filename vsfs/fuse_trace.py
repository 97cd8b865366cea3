"""fusepy's requests as calls of a traced volume: each request is one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vsfs.fuse_adapter import FuseAdapter
from vsfs.fuse_callbacks import Callbacks
from vsfs.traced import TracedVolume


class _TracedCallbacks(Callbacks):
    """Tells the volume when a request begins and ends."""

    def _wrapper(self, callback: Callable[..., Any], *arguments: Any) -> int:
        volume: TracedVolume = self.operations.volume
        name = callback.__name__
        if name in ("init", "destroy"):
            return int(super()._wrapper(callback, *arguments))
        path = arguments[0] if arguments and isinstance(arguments[0], bytes) else b""
        with volume.lock:
            volume.call_begins(name, f"{name}({path.decode('utf-8', 'backslashreplace')})")
            result = int(super()._wrapper(callback, *arguments))
            volume.call_returns(-min(result, 0), is_request=True)
        return result


class TracedFuseAdapter(FuseAdapter):
    """A ``FuseAdapter`` of a :class:`~vsfs.traced.TracedVolume`.

    The kernel keeps nothing of a cold volume: it asks for each name, and reads each
    byte, every time.
    """

    callbacks_type = _TracedCallbacks
    volume: TracedVolume

    def serve(self, image: str, mount_point: str, options: dict[str, Any]) -> None:
        """As of ``FuseAdapter``."""
        if self.volume.is_cold:
            options = {"direct_io": True, "entry_timeout": 0, "negative_timeout": 0, **options}
        super().serve(image, mount_point, options)
