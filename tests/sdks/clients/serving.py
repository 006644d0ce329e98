"""What the client scripts share: a line of JSON asks for a conversation, a line of JSON says what the SDK gave.

Scripts run where the SDKs are installed and crossfade is not: nothing of it may be imported here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

KEY = "unused-key"
TIMEOUT = 20.0
PROMPT = "Tell me about the otters of the harbour"
ASKS_TOOL = "How is the weather? [[tool]]"
WEATHER = "The weather of a city."
DEGREES = "7 degrees"
TEXTS = ["The otters sleep", "in the last of the sun"]


class Person(BaseModel):
    name: str
    age: int


def serve(converse: Callable[[str, str, str, str], Any]) -> None:
    """Answers jobs until the input ends. `converse` takes the API's dialect, the conversation's name, the address and
    the model, and gives the SDK's own objects; what it raises is told by its class and words."""
    for line in sys.stdin:
        job = json.loads(line)
        try:
            gave = converse(job["api"], job["conversation"], job["url"], job["model"])
            said = {"gave": to_jsonable_python(gave, fallback=repr, serialize_unknown=True)}
        except Exception as error:
            said = {"raised": type(error).__name__, "words": str(error)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
