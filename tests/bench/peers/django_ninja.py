"""Django with django-ninja and Django's own ORM (https://django-ninja.dev).

Of the two APIs for Django this is the faster one: pydantic in Rust does what Django REST Framework
does in Python. Settings are those of Django's deployment guide that concern speed: no debugging,
persistent connections, and no middleware, since none of the operations needs any.
"""

# ruff: noqa: E402 - Django has to be set up before its models are imported.
import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import django
import jwt
import orjson
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from sqlalchemy import make_url

from tests.bench.peers.settings import DATABASE_URL, read_token

url = make_url(DATABASE_URL)
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": url.database,
    "OPTIONS": {
        "timeout": 30,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON",
    },
}
POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": url.database,
    "USER": url.username or "",
    "PASSWORD": url.password or "",
    "HOST": url.host or "",
    "PORT": url.port or "",
}
settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[],
    USE_TZ=True,
    DATABASES={
        "default": {
            **(SQLITE if url.get_backend_name() == "sqlite" else POSTGRESQL),
            "CONN_MAX_AGE": None,
        }
    },
)
django.setup()

from django.db import transaction
from django.db.models import F
from ninja import Field, Header, NinjaAPI, Query, Schema
from ninja.renderers import BaseRenderer
from ninja.security import HttpBearer

from tests.bench.peers import django_models as shop
from tests.bench.peers.django_shop import Refused, place_order
from tests.bench.peers.pydantic_models import Action, IdempotencyKey, OrderCreate, Status


class OrjsonRenderer(BaseRenderer):
    """The faster renderer that django-ninja's guide shows."""

    media_type: str | None = "application/json"

    def render(self, request: HttpRequest, data: object, *, response_status: int) -> bytes:
        del request, response_status
        return orjson.dumps(data)


class Bearer(HttpBearer):
    """A token that has a scope and whose session holds."""

    def __init__(self, scope: str) -> None:
        super().__init__()
        self.scope = scope

    def authenticate(self, request: HttpRequest, token: str) -> shop.User | None:
        del request
        try:
            user_id, session_id, scopes = read_token(token)
        except jwt.InvalidTokenError:
            return None
        holding = shop.Token.objects.select_related("user").filter(
            pk=session_id,
            user=user_id,
            ended_at=None,
            expires_at__gt=datetime.now(UTC),
            token_version=F("user__token_version"),
            user__active=True,
            user__erased_at=None,
        )
        session = holding.first()
        return session.user if session is not None and self.scope in scopes else None


class Health(Schema):
    status: Literal["ok"]


class PictureFile(Schema):
    path: str
    url: str
    width: int
    height: int


class Avatar(Schema):
    original: PictureFile
    medium: PictureFile
    small: PictureFile


class UserOut(Schema):
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


class MoneyOut(Schema):
    amount: int
    currency: str


class OrderLineOut(Schema):
    product_id: int
    sku: str
    name: str
    unit_price: MoneyOut
    quantity: int
    total: MoneyOut
    shipped: int
    returned: int


class OrderOut(Schema):
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
    shipping_address: dict[str, str] | None
    metadata: dict[str, str] = Field(alias="labels")
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class OrderPage(Schema):
    items: list[OrderOut]
    next_cursor: str | None


api = NinjaAPI(renderer=OrjsonRenderer())


@api.exception_handler(Refused)
def refuse(request: HttpRequest, error: Refused) -> HttpResponse:
    return api.create_response(request, {"message": str(error)}, status=error.status)


@api.get("/health", response=Health)
def get_health(request: HttpRequest) -> dict[str, str]:
    del request
    return {"status": "ok"}


@api.get("/v1/users/{int:user_id}", response=UserOut, auth=Bearer("users:read"))
def get_user(request: Any, user_id: int) -> shop.User:  # noqa: ANN401 - ninja adds `auth` to it.
    account: shop.User = request.auth
    if account.pk == user_id:
        # It was read in this request already.
        return account
    user = shop.User.objects.filter(pk=user_id, erased_at=None).first()
    if user is None or account.role != "admin":
        raise Refused(404, "there is no such account")
    return user


@api.get("/v1/orders", response=OrderPage, auth=Bearer("orders:read"))
def list_orders(
    request: Any,  # noqa: ANN401 - As above.
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> dict[str, object]:
    rows = shop.Order.objects.order_by("-id").prefetch_related("lines")
    if request.auth.role != "admin":
        rows = rows.filter(user=request.auth)
    orders = list(rows[: limit + 1])
    cursor = orders[limit - 1].id.hex if len(orders) > limit else None
    return {"items": orders[:limit], "next_cursor": cursor}


@api.post("/v1/orders", response={201: OrderOut}, auth=Bearer("orders:write"))
def create_order(
    request: Any,  # noqa: ANN401 - As above.
    body: OrderCreate,
    key: Annotated[IdempotencyKey, Header(alias="Idempotency-Key")],
) -> HttpResponse:
    asked = orjson.dumps(body.model_dump(), option=orjson.OPT_SORT_KEYS)
    fingerprint = hashlib.sha256(asked).digest()
    with transaction.atomic():
        kept = shop.IdempotencyRecord.objects.filter(user=request.auth, key=key).first()
        if kept is not None and bytes(kept.fingerprint) != fingerprint:
            raise Refused(422, "the key was used for another request")
        if kept is not None:
            return HttpResponse(kept.body, status=201, content_type="application/json")
        order = place_order(request.auth, body)
        answer = OrderOut.from_orm(order).model_dump_json().encode()
        shop.IdempotencyRecord(
            user=request.auth,
            key=key,
            owner=request.auth,
            fingerprint=fingerprint,
            status=201,
            headers=[["Location", f"/v1/orders/{order.pk}"], ["Content-Type", "application/json"]],
            body=answer,
            created_at=datetime.now(UTC),
        ).save(force_insert=True)
    # It is kept under the key, so it was written as JSON before the commit.
    return HttpResponse(answer, status=201, content_type="application/json")


urlpatterns = [path("", api.urls)]
app = get_wsgi_application()
