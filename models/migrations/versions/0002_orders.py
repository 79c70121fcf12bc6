"""Create the tables of products, stock and orders."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

EXISTS = sa.text("archived_at IS NULL")
PENDING = sa.text("expires_at IS NOT NULL")
PAYMENT = sa.text("action = 'pay'")


def big_id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def sortable(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    create_products()
    create_product_terms()
    create_orders()
    create_order_lines()
    create_order_events()
    create_stock_entries()


def create_products() -> None:
    op.create_table(
        "products",
        sa.Column("id", big_id(), sa.Identity(always=True), nullable=False),
        sa.Column("sku", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("name_key", sortable(48), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("price_amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("on_hand", sa.Integer(), nullable=False),
        sa.Column("reserved", sa.Integer(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("price_amount >= 0", name=op.f("ck_products_price")),
        sa.CheckConstraint(
            "reserved >= 0 AND reserved <= on_hand", name=op.f("ck_products_reserved")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_products")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_products_active_currency_price_amount_id"),
        "products",
        ["active", "currency", "price_amount", "id"],
        postgresql_where=EXISTS,
        sqlite_where=EXISTS,
    )
    op.create_index(
        op.f("ix_products_active_id"),
        "products",
        ["active", "id"],
        postgresql_where=EXISTS,
        sqlite_where=EXISTS,
    )
    op.create_index(
        op.f("ix_products_active_name_key_id"),
        "products",
        ["active", "name_key", "id"],
        postgresql_where=EXISTS,
        sqlite_where=EXISTS,
    )
    op.create_index(
        op.f("ix_products_active_price_amount_id"),
        "products",
        ["active", "price_amount", "id"],
        postgresql_where=EXISTS,
        sqlite_where=EXISTS,
    )
    op.create_index(
        "uq_products_sku",
        "products",
        [sa.text("lower(sku)")],
        unique=True,
        postgresql_where=EXISTS,
        sqlite_where=EXISTS,
    )


def create_product_terms() -> None:
    op.create_table(
        "product_terms",
        sa.Column("product_id", big_id(), nullable=False),
        sa.Column("term", sortable(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name=op.f("fk_product_terms_product_id")
        ),
        sa.PrimaryKeyConstraint("product_id", "term", name=op.f("pk_product_terms")),
    )
    op.create_index(
        op.f("ix_product_terms_term_product_id"), "product_terms", ["term", "product_id"]
    )


def create_orders() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", big_id(), nullable=False),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("total_amount", sa.BigInteger(), nullable=False),
        sa.Column("paid_amount", sa.BigInteger(), nullable=False),
        sa.Column("refunded_amount", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.String(1000)),
        sa.Column("shipping_address", sa.JSON()),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status NOT IN ('partially_shipped', 'shipped', 'delivered')"
            " OR paid_amount = total_amount",
            name=op.f("ck_orders_shipped_paid"),
        ),
        sa.CheckConstraint("paid_amount <= total_amount", name=op.f("ck_orders_paid")),
        sa.CheckConstraint(
            "refunded_amount >= 0 AND refunded_amount <= paid_amount",
            name=op.f("ck_orders_refunded"),
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_orders_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
    )
    op.create_index(
        op.f("ix_orders_expires_at"),
        "orders",
        ["expires_at"],
        postgresql_where=PENDING,
        sqlite_where=PENDING,
    )
    op.create_index(op.f("ix_orders_status_id"), "orders", ["status", "id"])
    op.create_index(
        op.f("ix_orders_status_total_amount_id"), "orders", ["status", "total_amount", "id"]
    )
    op.create_index(op.f("ix_orders_total_amount_id"), "orders", ["total_amount", "id"])
    op.create_index(op.f("ix_orders_user_id_id"), "orders", ["user_id", "id"])
    op.create_index(op.f("ix_orders_user_id_status_id"), "orders", ["user_id", "status", "id"])
    op.create_index(
        op.f("ix_orders_user_id_status_total_amount_id"),
        "orders",
        ["user_id", "status", "total_amount", "id"],
    )
    op.create_index(
        op.f("ix_orders_user_id_total_amount_id"), "orders", ["user_id", "total_amount", "id"]
    )


def create_order_lines() -> None:
    op.create_table(
        "order_lines",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("product_id", big_id(), nullable=False),
        sa.Column("sku", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("unit_amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("shipped", sa.Integer(), nullable=False),
        sa.Column("returned", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "returned >= 0 AND returned <= shipped", name=op.f("ck_order_lines_returned")
        ),
        sa.CheckConstraint(
            "shipped >= 0 AND shipped <= quantity", name=op.f("ck_order_lines_shipped")
        ),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_lines_order_id")),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name=op.f("fk_order_lines_product_id")
        ),
        sa.PrimaryKeyConstraint("order_id", "number", name=op.f("pk_order_lines")),
        sa.UniqueConstraint(
            "order_id", "product_id", name=op.f("uq_order_lines_order_id_product_id")
        ),
    )


def create_order_events() -> None:
    op.create_table(
        "order_events",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("actor_id", big_id()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("money", sa.BigInteger()),
        sa.Column("currency", sa.String(3)),
        sa.Column("method", sa.String(40)),
        sa.Column("reference", sa.String(100)),
        sa.Column("carrier", sa.String(60)),
        sa.Column("tracking_number", sa.String(100)),
        sa.Column("reason", sa.String(200)),
        sa.Column("lines", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_order_events_actor_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_events_order_id")),
        sa.PrimaryKeyConstraint("order_id", "number", name=op.f("pk_order_events")),
    )
    op.create_index(
        op.f("ix_order_events_order_id_method_reference"),
        "order_events",
        ["order_id", "method", "reference"],
        unique=True,
        postgresql_where=PAYMENT,
        sqlite_where=PAYMENT,
    )


def create_stock_entries() -> None:
    op.create_table(
        "stock_entries",
        sa.Column("id", big_id(), sa.Identity(always=True), nullable=False),
        sa.Column("product_id", big_id(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("on_hand", sa.Integer(), nullable=False),
        sa.Column("reserved", sa.Integer(), nullable=False),
        sa.Column("order_id", sa.Uuid()),
        sa.Column("actor_id", big_id()),
        sa.Column("reason", sa.String(200)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('adjustment', 'reservation', 'release', 'shipment', 'return')",
            name=op.f("ck_stock_entries_kind"),
        ),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_stock_entries_actor_id")),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_stock_entries_order_id")
        ),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name=op.f("fk_stock_entries_product_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stock_entries")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_stock_entries_product_id_id"), "stock_entries", ["product_id", "id"])


def downgrade() -> None:
    for table in (
        *("stock_entries", "order_events", "order_lines", "orders"),
        *("product_terms", "products"),
    ):
        op.drop_table(table)
