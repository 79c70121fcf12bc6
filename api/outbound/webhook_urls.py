"""Which URLs webhook endpoints may have, and which addresses are public."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from models.errors import InvalidWebhookUrl

# RFC 6052. Translators of networks without IPv4 use it.
_NAT64 = IPv6Network("64:ff9b::/96")
# All other addresses of IPv6 have special purposes or none (RFC 4291, section 2.4).
_UNICAST = IPv6Network("2000::/3")
# IANA's special-purpose addresses in between, some of which `ipaddress` considers global: protocol
# assignments (RFC 6890, RFC 2928), relays (RFC 7526) and documentation (RFC 9637).
_SPECIAL = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("2001::/23"),
    IPv6Network("3fff::/20"),
)


def is_public(address: str) -> bool:
    """Return whether an IP address is reachable by everyone, and so not inside a private network.

    IPv6 addresses that contain an IPv4 address count as that address.
    """
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        embedded = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _NAT64:
            embedded = IPv4Address(int(parsed) & 0xFFFF_FFFF)
        if embedded is not None:
            return is_public(str(embedded))
        if parsed not in _UNICAST:
            return False
    is_special = any(parsed in each for each in _SPECIAL)
    return parsed.is_global and not parsed.is_multicast and not is_special


class WebhookUrls:
    """The rules for the URLs of webhook endpoints: anything goes unless they must be `public`."""

    def __init__(self, *, public: bool) -> None:
        self._public = public

    def check(self, url: str) -> None:
        """Check a URL that fits the pattern of the contract.

        Raises:
            InvalidWebhookUrl: The port is out of range, or the URL must be public and has another
                scheme than https or a host that is a private address.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise _invalid("is not a valid URL") from None
        if not self._public:
            return
        if parts.scheme.lower() != "https":
            raise _invalid("must start with https://")
        try:
            public = is_public(host)
        except ValueError:
            # It is a name, which is resolved when a connection is made.
            public = host.rpartition(".")[2] not in ("localhost", "local", "internal")
        if not public:
            raise _invalid("must have a host with a public address")


def _invalid(reason: str) -> InvalidWebhookUrl:
    return InvalidWebhookUrl(violations={"/url": reason})
