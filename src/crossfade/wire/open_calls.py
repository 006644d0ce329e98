"""Tool calls of a stream that come in pieces, each by the index of the block that it belongs to."""

from __future__ import annotations

from crossfade.core.exchange import ToolDelta


class OpenCalls:
    """The calls of one stream. `count` is how many have begun; a call that ends without arguments has `{}`."""

    __slots__ = ("_open", "_without", "count")

    def __init__(self) -> None:
        self._open: dict[int, int] = {}  # the number of the call by the index of its block
        self._without: set[int] = set()  # the indexes of those that have no arguments yet
        self.count = 0

    def __bool__(self) -> bool:
        """Whether any is open."""
        return bool(self._open)

    def begin(self, index: int, call_id: str, name: str, arguments: str = "") -> ToolDelta:
        number = self._open[index] = self.count
        self.count += 1
        if arguments:
            self._without.discard(index)
        else:
            self._without.add(index)
        return ToolDelta(index=number, id=call_id, name=name, arguments=arguments)

    def piece(self, index: int, arguments: str) -> tuple[ToolDelta, ...] | None:
        """A piece of the arguments; None where no such call is open."""
        number = self._open.get(index)
        if number is None:
            return None
        if not arguments:
            return ()
        self._without.discard(index)
        return (ToolDelta(index=number, arguments=arguments),)

    def end(self, index: int) -> tuple[ToolDelta, ...]:
        """What is still to be said of a call; nothing where none is open."""
        number = self._open.pop(index, None)
        if number is None or index not in self._without:
            return ()
        self._without.discard(index)
        return (ToolDelta(index=number, arguments="{}"),)
