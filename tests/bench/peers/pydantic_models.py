"""What the FastAPI peers take and answer, as pydantic models of Concord's contract."""

from datetime import datetime
from typing import Annotated, Literal, NotRequired
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

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
Text = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Note = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
Label = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$")]
LabelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
Metadata = Annotated[dict[LabelName, Label], Field(max_length=50)]
IdempotencyKey = Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]


@with_config(ConfigDict(extra="forbid", strict=True))
class Address(TypedDict):
    """A dict, because what is not given is absent in the answer instead of null."""

    name: Text
    line1: Text
    line2: NotRequired[Text]
    city: Text
    region: NotRequired[Text]
    postal_code: NotRequired[Text]
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class OrderLineCreate(In):
    product_id: Annotated[int, Field(ge=1, le=2**63 - 1)]
    quantity: Annotated[int, Field(ge=1, le=100_000)]


class OrderCreate(In):
    lines: Annotated[list[OrderLineCreate], Field(min_length=1, max_length=100)]
    note: Note | None = None
    shipping_address: Address | None = None
    metadata: Metadata = Field(default_factory=dict)


class Health(Out):
    status: Literal["ok"]


class PictureFile(Out):
    path: str
    url: str
    width: int
    height: int


class Avatar(Out):
    original: PictureFile
    medium: PictureFile
    small: PictureFile


class UserOut(Out):
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


class MoneyOut(Out):
    amount: int
    currency: str


class OrderLineOut(Out):
    product_id: int
    sku: str
    name: str
    unit_price: MoneyOut
    quantity: int
    total: MoneyOut
    shipped: int
    returned: int


class OrderOut(Out):
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
    metadata: Annotated[dict[str, str], Field(validation_alias="labels")]
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class OrderPage(Out):
    items: list[OrderOut]
    next_cursor: str | None
