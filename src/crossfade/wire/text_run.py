"""A run of events that differ from each other only in their text, and in a padding where the vendor adds one.

Most of a stream is such a run. Once one event of it has been decoded whole, the next needs no more than a comparison
of what stands around the text: equal bytes around another JSON string make an event that decodes to the same values
but for that string. Whatever is not so is left to the whole decoder. Knows no dialect: what an event's text is, it is
told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

PADDINGS: Final = (b'"obfuscation":"', b'"p":"')
"""Members that OpenAI and Mistral add to each event, with as many characters of no meaning as hide the length of the
text (seen in recorded streams of both)."""

MAX_LEARNED: Final = 8 * 1024
"""Bytes of an event that is kept to compare others with."""
_WORTH: Final = 8
"""Events that a pattern must have served before learning another one is worth its cost."""
_FIRST_TRIES: Final = 3

_decode_string: Final = msgspec.json.Decoder(str).decode


class TextRun:
    """Reads the text of an event that is like the last one `learn` was given; of one stream.

    `member` is what stands before the text's own quote, as `"content":`. `text_of_whole` decodes a whole event: its
    text where it says nothing but text, else None.
    """

    __slots__ = ("_before", "_behind", "_between", "_member", "_served", "_text_of_whole", "_tries")

    def __init__(self, member: bytes, text_of_whole: Callable[[bytes], str | None]) -> None:
        self._member = member
        self._text_of_whole = text_of_whole
        self._before = b""  # up to the text and its opening quote; empty: nothing is known
        self._between = b""  # from the text's closing quote to the opening quote of the padding, where there is one
        self._behind = b""  # from the last closing quote on
        self._served = 0
        self._tries = _FIRST_TRIES

    def text(self, event: bytes) -> str | None:
        """The text of an event like the one that was learned from; None: it has to be decoded whole."""
        before, behind = self._before, self._behind
        if not before or not event.startswith(before) or not event.endswith(behind):
            return None
        begin, end = len(before) - 1, len(event) - len(behind) + 1
        if end - begin < 2:
            return None  # the two overlap
        if between := self._between:
            at = event.find(b'"', begin + 1)  # the end of most texts; of one with quotes the next line does not find it
            if event[at : at + len(between)] != between and (at := event.find(between, at + 1)) < 0:
                return None
            padding = at + len(between)
            if padding >= end or not _is_padding(event[padding : end - 1]):
                return None
            end = at + 1
        try:
            text = _decode_string(event[begin:end])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        self._served += 1
        return text

    def learn(self, event: bytes, text: str) -> None:
        """Has later events like this one, which was decoded whole to `text`, read by `text`, and no others. Where this
        was not worth it a few times it is given up for the rest of the stream."""
        self._before = self._between = self._behind = b""
        if self._served >= _WORTH:
            self._tries = _FIRST_TRIES
        self._served = 0
        if not self._tries or len(event) > MAX_LEARNED:
            return
        self._tries -= 1
        begin = event.find(self._member + b'"') + len(self._member) + 1
        end = event.find(b'"', begin)
        if begin <= len(self._member) or end < 0:
            return
        before, between, behind = event[:begin], b"", event[end:]
        for padding in PADDINGS:
            at = behind.find(padding)
            close = behind.find(b'"', at + len(padding))
            if at >= 0 and close >= 0:
                between, behind = behind[: at + len(padding)], behind[close:]
                break
        # That the places found are the text's and the padding's own is proven, not assumed: other strings put there
        # must decode, and to nothing but that other text.
        probe = "0" if text != "0" else "1"
        filled = before + probe.encode() + (between + b"0" if between else b"") + behind
        if self._text_of_whole(filled) == probe:
            self._before, self._between, self._behind = before, between, behind


def _is_padding(data: bytes) -> bool:
    return data.isalnum() or not data
