"""Causes of failures of the file store, for operators."""

import re
from typing import Final

_METADATA_SERVICE: Final = "169.254.169.254"
"""Where the library looks for credentials when the environment has none."""
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]+?)\.?</Message>")
_STATUS: Final = re.compile(r"status code: (\d+ [A-Za-z ]+)")
_SOURCE: Final = re.compile(r'(?:message|error): "([^"]+)"|(Invalid\w+\(\w+\))')
"""The innermost error in the library's debugging output, such as `Connection refused`."""


def cause_of(error: Exception) -> str:
    """Return the cause of a store's error in one line."""
    text = str(error)
    if _METADATA_SERVICE in text:
        return "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if (code := _CODE.search(text)) and (message := _MESSAGE.search(text)):
        return f"{message[1]} ({code[1]})"
    summary, _, source = text.partition("\n\nDebug source:")
    if "kind: Timeout" in source:
        return "no response in time"
    if status := _STATUS.search(summary):
        return f"the store returned {status[1]}"
    found = _SOURCE.findall(source)
    return " ".join((max(found[-1]) if found else summary).split())
