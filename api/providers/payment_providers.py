"""The payment providers of a service, with their secrets."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from api.contract.ports import Logger
from api.providers.payment_reports import STRIPE, read_standard_event, read_stripe_event
from api.providers.signatures import check_standard_signature, check_stripe_signature
from models.errors import NotFound
from models.payments.payment_event import PaymentEvent, Report


@dataclass(frozen=True, slots=True)
class Signature:
    """The headers that sign an event, each `None` if it was not sent."""

    stripe: str | None = None
    id: str | None = None
    timestamp: str | None = None
    standard: str | None = None


@dataclass(frozen=True, slots=True)
class PaymentProviders:
    """The secrets by provider, and where operators are told about events.

    `count` counts an event by its provider and outcome.
    """

    secrets: Mapping[str, Sequence[str]] = field(repr=False)
    logger: Logger
    count: Callable[[str, str], None]

    @classmethod
    def of(
        cls, secrets: Iterable[tuple[str, str]], logger: Logger, count: Callable[[str, str], None]
    ) -> "PaymentProviders":
        """Return the providers of pairs of a name and a secret; a name may have several."""
        named = defaultdict[str, list[str]](list)
        for provider, secret in secrets:
            named[provider].append(secret)
        return cls(dict(named), logger, count)

    def read(self, provider: str, signature: Signature, body: bytes) -> Report | None:
        """Verify an event and read it; return `None` if it is of no concern to an order.

        Raises:
            NotFound: The provider has no secret.
            InvalidSignature: The signature is missing, incorrect or too old.
            InvalidPaymentEvent: The provider signed an event that cannot be read.
        """
        secrets = self.secrets.get(provider)
        if secrets is None:
            raise NotFound
        if provider == STRIPE:
            check_stripe_signature(secrets, signature.stripe, body)
            return read_stripe_event(body)
        check_standard_signature(
            secrets, signature.id, signature.timestamp, signature.standard, body
        )
        return read_standard_event(provider, signature.id or "", body)

    def tell(self, provider: str, event: PaymentEvent | None) -> None:
        """Count a report, which is `None` if it is known already, and warn of refused money."""
        outcome = "repeated" if event is None else event.outcome
        self.count(provider, outcome)
        if event is not None and event.outcome == "refused":
            self.logger.warning(
                "payment event refused",
                provider=provider,
                reference=event.reference,
                order_id=str(event.order_id),
                reason=event.refusal,
            )
