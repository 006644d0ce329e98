"""The gateway's own fields as they stand in a request of any dialect, for decoding. Decides nothing."""

from __future__ import annotations

from typing import Final

import msgspec

NO: Final = msgspec.Raw()


class OurFields(msgspec.Struct, gc=False):
    model: str | None = None
    fallback_models: msgspec.Raw = NO
    models: msgspec.Raw = NO
    fallbacks: msgspec.Raw = NO
    fallback_on: msgspec.Raw = NO
    crossfade: msgspec.Raw = NO
