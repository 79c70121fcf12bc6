"""Concord's tables as Django declares them: not managed, because Concord's migrations made them."""

# ruff: noqa: DJ008 - Nobody prints them.
from typing import Any, ClassVar

from django.db import models

from tests.bench.peers.derived import Amounts, Money, money


class Json(models.JSONField):
    """JSON in a column of PostgreSQL's type json, which the driver has decoded already."""

    def from_db_value(self, value: Any, expression: object, connection: object) -> Any:  # noqa: ANN401 - Django's own.
        if value is None or not isinstance(value, str):
            return value
        return super().from_db_value(value, expression, connection)


class User(models.Model):
    name = models.CharField(max_length=100)
    email = models.CharField(max_length=254)
    role = models.CharField(max_length=16)
    active = models.BooleanField()
    email_verified = models.BooleanField()
    password_change_required = models.BooleanField()
    avatar = models.CharField(max_length=100, null=True)  # noqa: DJ001 - Concord's column is so.
    token_version = models.IntegerField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    erased_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "shop"
        db_table = "users"
        managed = False


class Token(models.Model):
    """A session: what of it is read to see whether it holds."""

    id = models.UUIDField(primary_key=True)
    user = models.ForeignKey(User, models.DO_NOTHING)
    token_version = models.IntegerField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "shop"
        db_table = "tokens"
        managed = False


class Product(models.Model):
    sku = models.CharField(max_length=64)
    name = models.CharField(max_length=200)
    price_amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    on_hand = models.IntegerField()
    reserved = models.IntegerField()
    active = models.BooleanField()
    version = models.IntegerField()
    updated_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "shop"
        db_table = "products"
        managed = False


class Order(Amounts, models.Model):
    id = models.UUIDField(primary_key=True)
    user = models.ForeignKey(User, models.DO_NOTHING)
    status = models.CharField(max_length=24)
    currency = models.CharField(max_length=3)
    total_amount = models.BigIntegerField()
    paid_amount = models.BigIntegerField(default=0)
    refunded_amount = models.BigIntegerField(default=0)
    bounced_amount = models.BigIntegerField(default=0)
    unapplied_amount = models.BigIntegerField(default=0)
    unapplied_refunded_amount = models.BigIntegerField(default=0)
    note = models.CharField(max_length=1000, null=True)  # noqa: DJ001 - Concord's column is so.
    shipping_address = Json(null=True)
    labels = Json(db_column="metadata")
    version = models.IntegerField()
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        app_label = "shop"
        db_table = "orders"
        managed = False

    @property
    def allowed_actions(self) -> list[str]:
        return self.allowed(self.lines.all())


class OrderLine(models.Model):
    pk = models.CompositePrimaryKey("order_id", "number")
    order = models.ForeignKey(Order, models.DO_NOTHING, related_name="lines")
    number = models.IntegerField()
    product = models.ForeignKey(Product, models.DO_NOTHING)
    sku = models.CharField(max_length=64)
    name = models.CharField(max_length=200)
    unit_amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    quantity = models.IntegerField()
    shipped = models.IntegerField(default=0)
    returned = models.IntegerField(default=0)

    class Meta:
        app_label = "shop"
        db_table = "order_lines"
        managed = False
        ordering: ClassVar = ["number"]

    @property
    def unit_price(self) -> Money:
        return money(self.unit_amount, self.currency)

    @property
    def total(self) -> Money:
        return money(self.unit_amount * self.quantity, self.currency)


class OrderEvent(models.Model):
    pk = models.CompositePrimaryKey("order_id", "number")
    order = models.ForeignKey(Order, models.DO_NOTHING)
    number = models.IntegerField()
    action = models.CharField(max_length=16)
    status = models.CharField(max_length=24)
    actor = models.ForeignKey(User, models.DO_NOTHING, null=True)
    created_at = models.DateTimeField()
    lines = Json(default=list)

    class Meta:
        app_label = "shop"
        db_table = "order_events"
        managed = False


class StockEntry(models.Model):
    id = models.BigAutoField(primary_key=True)
    product = models.ForeignKey(Product, models.DO_NOTHING)
    kind = models.CharField(max_length=16)
    on_hand = models.IntegerField()
    reserved = models.IntegerField()
    order = models.ForeignKey(Order, models.DO_NOTHING, null=True)
    actor = models.ForeignKey(User, models.DO_NOTHING, null=True)
    created_at = models.DateTimeField()

    class Meta:
        app_label = "shop"
        db_table = "stock_entries"
        managed = False


class Event(models.Model):
    sequence = models.BigAutoField(primary_key=True)
    id = models.UUIDField()
    type = models.CharField(max_length=40)
    subject = models.CharField(max_length=48)
    version = models.IntegerField()
    facts = Json()
    created_at = models.DateTimeField()

    class Meta:
        app_label = "shop"
        db_table = "events"
        managed = False


class IdempotencyRecord(models.Model):
    pk = models.CompositePrimaryKey("user_id", "key")
    user = models.ForeignKey(User, models.DO_NOTHING)
    key = models.CharField(max_length=255)
    owner = models.ForeignKey(User, models.DO_NOTHING, null=True, related_name="+")
    fingerprint = models.BinaryField()
    status = models.IntegerField()
    headers = Json()
    body = models.BinaryField()
    created_at = models.DateTimeField()

    class Meta:
        app_label = "shop"
        db_table = "idempotency_records"
        managed = False
