"""An answer that is not made from a JSON schema: a page's script, an image, the document itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of one declared media type, with headers that the contract declares for them."""

    media_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
