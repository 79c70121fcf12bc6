"""The msgspec structs of the Litestar peers: the bodies that they take, and their answers."""

# mypy: disable-error-code="call-arg"
# msgspec is not where mypy looks, so it does not know what its structs can be told.
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

Text = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Note = Annotated[str, Meta(max_length=1000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
Label = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$")]
LabelName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
IdempotencyKey = Annotated[str, Meta(pattern=r"^[!-~]{1,255}$")]
Limit = Annotated[int, Meta(ge=1, le=100)]
Status = Literal[
    "pending",
    "paid",
    "partially_shipped",
    "shipped",
    "delivered",
    "cancelled",
    "expired",
    "refunded",
]
Action = Literal[
    "update", "pay", "cancel", "reduce", "ship", "deliver", "refund", "return", "bounce"
]


class Address(Struct, forbid_unknown_fields=True, kw_only=True):
    name: Text
    line1: Text
    line2: Text | UnsetType = UNSET
    city: Text
    region: Text | UnsetType = UNSET
    postal_code: Text | UnsetType = UNSET
    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}$")]


class OrderLineCreate(Struct, forbid_unknown_fields=True):
    product_id: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    quantity: Annotated[int, Meta(ge=1, le=100_000)]


class OrderCreate(Struct, forbid_unknown_fields=True):
    lines: Annotated[list[OrderLineCreate], Meta(min_length=1, max_length=100)]
    note: Note | None = None
    shipping_address: Address | None = None
    metadata: Annotated[dict[LabelName, Label], Meta(max_length=50)] = field(default_factory=dict)


class Health(Struct):
    status: Literal["ok"]


class PictureFile(Struct):
    path: str
    url: str
    width: int
    height: int


class Avatar(Struct):
    original: PictureFile
    medium: PictureFile
    small: PictureFile


class UserOut(Struct):
    id: int
    name: str
    email: str
    role: Literal["user", "admin"]
    active: bool
    email_verified: bool
    password_change_required: bool
    avatar: Avatar | None
    created_at: datetime
    updated_at: datetime


class MoneyOut(Struct):
    amount: int
    currency: str


class OrderLineOut(Struct):
    product_id: int
    sku: str
    name: str
    unit_price: MoneyOut
    quantity: int
    total: MoneyOut
    shipped: int
    returned: int


class OrderOut(Struct):
    id: UUID
    user_id: int
    status: Status
    allowed_actions: list[Action]
    lines: list[OrderLineOut]
    total: MoneyOut
    paid: MoneyOut
    refunded: MoneyOut
    unapplied: MoneyOut
    due: MoneyOut
    note: str | None
    shipping_address: Address | None
    labels: dict[str, str] = field(name="metadata")
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class OrderPage(Struct):
    items: list[OrderOut]
    next_cursor: str | None
