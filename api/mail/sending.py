"""The outbox: sends messages in turn, and retries each until it is delivered or too old."""

from functools import partial

from api.mail.composing import Composer
from api.mail.transports import NotNowError, Transport, UndeliverableError
from api.server.logs import Logger
from models.messages.message import Letter, Message, Withheld
from models.storage.database import Database


class Sender:
    """Sends the queued messages of a database. Several processes may run one each."""

    def __init__(
        self,
        database: Database,
        composer: Composer,
        transport: Transport,
        logger: Logger,
        mailbox_key: bytes,
    ) -> None:
        self._database = database
        self._composer = composer
        self._transport = transport
        self._logger = logger
        self._take = partial(Message.take, mailbox_key=mailbox_key)
        self.is_delivering = True
        """Whether the last message that was tried was delivered, if any was tried."""

    def send_next(self) -> bool:
        """Send the message that has been due longest; return whether to continue with the next.

        Raises:
            DatabaseUnavailable: the database cannot be reached; no message is lost.
            Exception: a failure that would affect other messages too; the message is retried
                later.
        """
        if not self._database.read(Message.is_any_due):
            return False
        letter = self._database.transact(self._take, write=True)
        if letter is None:
            return False
        if isinstance(letter, Withheld):
            self._logger.warning("message withheld", message=str(letter.id), kind=letter.kind)
            return True
        self.is_delivering = False
        try:
            self._transport.send(self._composer.compose(letter))
        except UndeliverableError as refusal:
            self._give_up(letter, "refused by its server", str(refusal))
        except NotNowError as refusal:
            self._log("warning", "message postponed", letter, code=str(refusal))
            self._postpone(letter)
            return True
        except Exception:
            self._postpone(letter)
            raise
        else:
            self.is_delivering = True
        self._database.transact(partial(Message.remove, letter=letter), write=True)
        return True

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
