"""Responses compared, except for what differs between any two of them."""

import re
from typing import NamedTuple

import httpx

_OF_THE_MOMENT = frozenset({"date", "ratelimit", "x-request-id"})


class Comparable(NamedTuple):
    """An answer without its time, its request id and the counts of its limits."""

    status: int
    headers: dict[str, str]
    body: bytes


_EXPORTED_AT = re.compile(rb'"exported_at":"[^"]+"')


def comparable(answer: httpx.Response) -> Comparable:
    """Leave out of an answer what is different each time. That it has those headers is kept."""
    headers = {
        name: "" if name in _OF_THE_MOMENT else value for name, value in answer.headers.items()
    }
    request_id = answer.headers["x-request-id"].encode()
    content = _EXPORTED_AT.sub(b"", answer.content.replace(request_id, b"<id>"))
    return Comparable(answer.status_code, headers, content)


def problem(answer: httpx.Response) -> str:
    """The last part of a problem's type; fails for an answer that is no problem."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    members = answer.json()
    assert members["status"] == answer.status_code
    assert members["instance"] == answer.headers["x-request-id"]
    return str(members["type"]).rpartition("/problems/")[2]
