"""The outbox: sends messages in turn, and retries each until it is delivered or too old."""

import time
from collections import deque
from collections.abc import Callable
from functools import partial

from api.mail.composing import Composer
from api.mail.transports import NotNowError, Transport, UndeliverableError
from api.server.logs import Logger
from models.messages.message import Letter, Message, Withheld
from models.messages.outbox import BATCH, LEASE, take_letters
from models.storage.database import Database

_BATCH_SECONDS = LEASE.total_seconds() / 2
"""Time after which no further message of a batch is tried. The last one takes less than the rest
of the lease."""


class Sender:
    """Sends the queued messages of a database. Several processes may run one each."""

    def __init__(
        self,
        database: Database,
        composer: Composer,
        transport: Transport,
        logger: Logger,
        mailbox_key: bytes,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Send no further message once `is_stopping()` returns true."""
        self._database = database
        self._composer = composer
        self._transport = transport
        self._logger = logger
        self._take = partial(take_letters, mailbox_key=mailbox_key)
        self._is_stopping = is_stopping
        self.is_delivering = True
        """Whether the last message that was tried was delivered, if any was tried."""

    def send_batch(self) -> bool:
        """Send the messages that have been due longest; return whether to continue with others.

        If the process dies, those of the batch that have already been sent are sent again.

        Raises:
            DatabaseUnavailable: the database cannot be reached; no message is lost.
            Exception: a failure that would affect other messages too; the message is retried
                later.
        """
        taken = self._database.read(Message.is_any_due) and self._database.transact(self._take)
        if not taken:
            self._transport.close()
            return False
        letters = deque[Letter]()
        for each in taken:
            if isinstance(each, Withheld):
                self._logger.warning("message withheld", message=str(each.id), kind=each.kind)
            else:
                letters.append(each)
        until = time.monotonic() + _BATCH_SECONDS
        settled: list[Letter] = []
        try:
            while letters and not self._is_stopping() and time.monotonic() < until:
                letter = letters.popleft()
                if self._send(letter):
                    settled.append(letter)
        finally:
            if len(taken) < BATCH:
                self._transport.close()
            self._settle(settled, letters)
        return True

    def _send(self, letter: Letter) -> bool:
        """Try to send a message, and return whether it need not be tried again."""
        self.is_delivering = False
        try:
            self._transport.send(self._composer.compose(letter))
        except UndeliverableError as refusal:
            self._give_up(letter, "refused by its server", str(refusal))
        except NotNowError as refusal:
            self._log("warning", "message postponed", letter, code=str(refusal))
            self._postpone(letter)
            return False
        except Exception:
            self._postpone(letter)
            raise
        else:
            self.is_delivering = True
        return True

    def _settle(self, settled: list[Letter], untried: deque[Letter]) -> None:
        """Delete messages that need not be tried again, and let others take those not tried."""
        if settled:
            self._database.transact(partial(Message.remove, letters=settled))
        if untried:
            self._database.transact(partial(Message.release, letters=untried))

    def _postpone(self, letter: Letter) -> None:
        if not self._database.transact(partial(Message.postpone, letter=letter), write=True):
            self._give_up(letter, "too old")

    def _give_up(self, letter: Letter, reason: str, code: str | None = None) -> None:
        self._log("error", "message given up", letter, reason=reason, code=code)

    def _log(self, level: str, event: str, letter: Letter, **facts: str | None) -> None:
        # Logs must not reveal the recipient.
        known = {name: fact for name, fact in facts.items() if fact is not None}
        getattr(self._logger, level)(
            event, message=str(letter.id), kind=letter.kind, attempts=letter.attempt, **known
        )
