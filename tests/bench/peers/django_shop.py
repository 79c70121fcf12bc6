"""Placing an order with Django's ORM: the same statements, locks and rows as the other peers'."""

from datetime import UTC, datetime

from django.db.models import F
from uuid_utils.compat import uuid7

from tests.bench.peers.derived import events_of
from tests.bench.peers.django_models import (
    Event,
    Order,
    OrderEvent,
    OrderLine,
    Product,
    StockEntry,
    User,
)
from tests.bench.peers.pydantic_models import OrderCreate
from tests.bench.peers.settings import RESERVATION


class Refused(Exception):
    """The order cannot be placed, or the request is wrong in another way."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def place_order(account: User, body: OrderCreate) -> Order:
    """Reserve stock and write the order, its event, and the rows of the ledger and the feed.

    Raises:
        Refused: the lines make no order, or there is not enough of something.
    """
    products = _lock([line.product_id for line in body.lines])
    now = datetime.now(UTC)
    order = Order(
        id=uuid7(),
        user=account,
        status="pending",
        currency=products[body.lines[0].product_id].currency,
        total_amount=sum(
            products[line.product_id].price_amount * line.quantity for line in body.lines
        ),
        note=body.note,
        shipping_address=body.shipping_address,
        labels=body.metadata,
        version=1,
        expires_at=now + RESERVATION,
        created_at=now,
        updated_at=now,
    )
    lines, entries = [], []
    for number, each in enumerate(body.lines):
        product, quantity = products[each.product_id], each.quantity
        if product.on_hand - product.reserved < quantity:
            raise Refused(409, "there is not enough of something")
        lines.append(
            OrderLine(
                order=order,
                number=number,
                product=product,
                sku=product.sku,
                name=product.name,
                unit_amount=product.price_amount,
                currency=product.currency,
                quantity=quantity,
            )
        )
        entries.append(
            StockEntry(
                product=product,
                kind="reservation",
                on_hand=0,
                reserved=quantity,
                order=order,
                actor=account,
                created_at=now,
            )
        )
        Product.objects.filter(pk=product.pk, version=product.version).update(
            reserved=F("reserved") + quantity, version=F("version") + 1, updated_at=now
        )
    order.save(force_insert=True)
    OrderLine.objects.bulk_create(lines)
    OrderEvent(
        order=order, number=1, action="create", status="pending", actor=account, created_at=now
    ).save(force_insert=True)
    StockEntry.objects.bulk_create(entries)
    versions = {product.pk: product.version for product in products.values()}
    Event.objects.bulk_create(Event(**row) for row in events_of(order, lines, versions, now))
    # As `prefetch_related` leaves it: the answer would ask for them once more.
    order._prefetched_objects_cache = {"lines": lines}  # noqa: SLF001 - There is no public way.
    return order


def _lock(product_ids: list[int]) -> dict[int, Product]:
    rows = Product.objects.select_for_update(no_key=True).filter(pk__in=product_ids)
    products = {product.pk: product for product in rows.order_by("pk")}
    if len(products) != len(product_ids) or not all(
        product.active and product.archived_at is None for product in products.values()
    ):
        raise Refused(422, "a product is unknown or named twice")
    if len({product.currency for product in products.values()}) > 1:
        raise Refused(422, "the products have several currencies")
    return products
