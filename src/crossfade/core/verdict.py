"""What one attempt amounted to."""

from __future__ import annotations

import msgspec

from crossfade.core.exchange import Completion, Usage
from crossfade.core.failure import Failure


class Accepted(msgspec.Struct, gc=False):
    """A whole, valid answer. `usage` is the provider's count, where it gave one."""

    usage: Usage | None = None
    completion: Completion | None = None


class Rejected(msgspec.Struct, gc=False):
    """No answer that may pass. `completion` is there where a soft failure may still be delivered as received."""

    failure: Failure
    usage: Usage | None = None


Verdict = Accepted | Rejected
