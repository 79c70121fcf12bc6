"""The outbox is emptied: one message after the other, each tried until it is out or too old."""

from functools import partial

from api.logs import Logger
from api.mail.composing import Composer
from api.mail.transports import NotNowError, Transport, UndeliverableError
from models.database import Database
from models.message import Letter, Message


class Sender:
    """Sends the messages of a database, as do other processes beside it."""

    def __init__(
        self, database: Database, composer: Composer, transport: Transport, logger: Logger
    ) -> None:
        self._database = database
        self._composer = composer
        self._transport = transport
        self._logger = logger

    def send_next(self) -> bool:
        """Send the message that has been due for longest, and tell whether the next can follow.

        Raises:
            DatabaseUnavailable: nothing is lost by that.
            Exception: what would keep others from being sent as well; it is tried again later.
        """
        if not self._database.transact(Message.is_any_due, write=False):
            return False
        letter = self._database.transact(Message.take, write=True)
        if letter is None:
            return False
        try:
            self._transport.send(self._composer.compose(letter))
        except UndeliverableError:
            self._give_up(letter, "refused by its server")
        except NotNowError:
            self._postpone(letter)
            return True
        except Exception:
            self._postpone(letter)
            raise
        self._database.transact(partial(Message.remove, letter=letter), write=True)
        return True

    def _postpone(self, letter: Letter) -> None:
        if not self._database.transact(partial(Message.postpone, letter=letter), write=True):
            self._give_up(letter, "too old")

    def _give_up(self, letter: Letter, reason: str) -> None:
        # To whom it was is nobody's business who reads logs.
        self._logger.error(
            "message given up",
            message=str(letter.id),
            kind=letter.kind,
            attempts=letter.attempt,
            reason=reason,
        )
