"""The jobs that clean up and maintain the data of an installation, apart from sending messages."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from api.server.settings import Settings
from api.server.upkeep import Job
from models.accounts.ended_tokens import clear_ended_accounts, delete_ended_tokens
from models.accounts.unclaimed import erase_unclaimed
from models.events.feed import purge_events
from models.files.stored_picture import Pictures
from models.identity.audit_event import AuditEvent
from models.identity.known_address import KnownAddress
from models.identity.one_time_token import OneTimeToken
from models.lifecycle import Lifecycle
from models.messages.mailbox import MailboxUse
from models.messages.message import Message
from models.orders.order_erasure import forget_old_orders
from models.orders.order_expiry import expire_orders
from models.set_aside import SetAside
from models.storage.batches import change_batch
from models.storage.database import Database
from models.storage.idempotency_record import IdempotencyRecord
from models.webhooks.delivery import Delivery


def make_jobs(
    settings: Settings,
    database: Database,
    lifecycle: Lifecycle,
    pictures: Pictures,
    report: Callable[[str], Callable[[object, Exception], None]],
) -> list[Job]:
    """Return the jobs. `report` is given a job's name, and returns what reports rows set aside."""
    change = partial(change_batch, database)
    answers_kept = timedelta(seconds=settings.idempotency_seconds)
    audited = timedelta(seconds=settings.audit_seconds)
    jobs = [
        Job(
            "orders",
            1,
            partial(expire_orders, database, lifecycle, SetAside(report("orders"))),
            is_shared=True,
        ),
        Job("idempotency", 60, partial(change, partial(IdempotencyRecord.purge, answers_kept))),
        Job("tokens", 600, partial(delete_ended_tokens, database)),
        Job(
            "ended-accounts",
            600,
            partial(clear_ended_accounts, database, SetAside(report("ended-accounts"))),
        ),
        Job("audit", 3600, partial(change, partial(AuditEvent.purge, audited))),
        Job("events", 600, partial(purge_events, database, settings.events_kept)),
        Job("deliveries", 600, partial(change, partial(Delivery.purge, settings.events_kept))),
        Job("addresses", 3600, partial(change, KnownAddress.purge)),
        Job("links", 60, partial(change, OneTimeToken.purge)),
        Job("messages", 600, partial(change, Message.purge)),
        Job("mailboxes", 600, partial(change, MailboxUse.purge)),
    ]
    if settings.unclaimed_seconds is not None:
        # Nobody ever used these accounts.
        times = timedelta(seconds=settings.unclaimed_seconds), audited
        aside = SetAside[int](report("unclaimed"))
        erase = partial(erase_unclaimed, database, lifecycle, *times, aside)
        jobs.append(Job("unclaimed", 3600, erase))
    if settings.order_personal_data_seconds is not None:
        keep = timedelta(seconds=settings.order_personal_data_seconds)
        jobs.append(Job("order-data", 600, partial(forget_old_orders, database, keep)))
    jobs.append(Job("pictures", 600, partial(pictures.sweep, SetAside(report("pictures")))))
    return jobs
