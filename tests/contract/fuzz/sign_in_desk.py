"""A place where a fuzzer gets tokens for accounts that are always there, and orders to act on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from sqlalchemy.orm import Session

from api.credentials.signing import KeyRing
from models.demo.demo_accounts import seed_demo_users
from models.identity.password import Passwords
from models.identity.user import Role, User
from models.storage.database import Database
from tests.contract.fuzz.desk_proofs import DeskProofs
from tests.contract.fuzz.desk_shop import DeskShop
from tests.contract.fuzz.desk_webhooks import DeskWebhooks
from tests.contract.fuzz.shelf import OTHERS
from tests.factories import STATUSES, Person, make_access_token, make_session
from tests.live import HOST, LiveServer
from tests.models.reading import read_payment
from tests.our_document import our_document

ACCOUNTS: Mapping[str, Role] = {"user": "user", "peer": "user", "administrator": "admin"}
"""Who can sign in. `user` and `peer` must not see each other's account."""


class SignInDesk:
    """Issues tokens without asking for anything.

    The fuzzer deletes, disables and demotes whom it can, the account that it acts for included.
    Its token then holds no longer and it signs in again: here, where the account is put right
    first, and where no limit on sign-ins counts. An account that has used up a limit of its own is
    given up for another one.
    """

    def __init__(self, server: LiveServer) -> None:
        self._database = Database(server.environment["DATABASE_URL"])
        self._keys = KeyRing.load(Path(server.environment["SIGNING_KEY_FILE"]), create=False)
        self._issuer = server.url
        self._given_up: Counter[str] = Counter()
        passwords = Passwords()
        # The password of the contract's examples is everybody's. It is hashed once, as with another
        # hash an account that is put right would get another password.
        schemas = our_document().bundle["components"]["schemas"]
        password = schemas["Password"]["example"]
        self._password_hash = passwords.hash(password, email="")
        self._proofs = DeskProofs(self._database, self._keys, password)
        seed_demo_users(self._database, passwords, count=OTHERS)
        self._shop = DeskShop(self._database, server.environment["STORAGE_URL"])
        self.webhooks = DeskWebhooks(self._database, self._keys)
        for name in ACCOUNTS:
            for status in STATUSES:
                self.order(name, status)

    def sign_in(self, name: str) -> str:
        """Return a token for an account of `ACCOUNTS`."""
        return make_access_token(self._database, self._account(name), self._keys, self._issuer)

    def order(self, name: str, status: str) -> Mapping[str, str]:
        """Return the id of a new order in this state, of an account of `ACCOUNTS`.

        The method and reference of its payment are added if it has been paid for.
        """
        order = self._shop.order(Person(self._account(name).id), status)
        return {"id": str(order.id), **read_payment(self._database, order.id)}

    def session(self, name: str) -> Mapping[str, str]:
        """Return the id of a new session of an account of `ACCOUNTS`."""
        return {"id": str(make_session(self._database, self._account(name), self._keys).session.id)}

    def proof(self, name: str, operation_id: str) -> Mapping[str, str]:
        """Return what an account of `ACCOUNTS` has to send with an operation to be believed."""
        return self._proofs.proof(self._account(name), operation_id)

    def give_up(self, name: str) -> None:
        """Let there be another account of this name from now on.

        The tokens of the one before end, so that schemathesis signs in again at once.
        """
        self._database.transact(self._account(name).end_tokens, write=True)
        self._given_up[name] += 1

    def close(self) -> None:
        """Give back the connections to the database."""
        self._database.dispose()

    def _account(self, name: str) -> User:
        return self._database.transact(partial(self._put_right, name=name), write=True)

    def _put_right(self, session: Session, *, name: str) -> User:
        email, role = f"{name}{self._given_up[name]}@desk.example", ACCOUNTS[name]
        user = User.by_email(session, email)
        if user is None:
            create = User.create_administrator if role == "admin" else User.register
            return create(session, name=name, email=email, password_hash=self._password_hash)
        user.change(
            session,
            role=role,
            active=True,
            password_hash=self._password_hash,
            password_change_required=False,
        )
        return user


@contextmanager
def open_desk(server: LiveServer) -> Iterator[str]:
    """Serve a desk until the block ends, and yield its URL.

    To sign in is a POST to it with `/` and a name, to give an account up is a DELETE. A POST with
    `/`, a name, `/orders/` and a state makes an order, and one with `/sessions` a session; one with
    `/proofs/` and an operationId gives members for the operation's body, and one with `/webhooks`
    makes a webhook endpoint.
    """
    desk = SignInDesk(server)

    class Window(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        """An answer is sent as a whole."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            match self.path[1:].split("/"):
                case [name, "orders", state]:
                    self._answer(desk.order(name, state))
                case [name, "sessions"]:
                    self._answer(desk.session(name))
                case [name, "proofs", operation_id]:
                    self._answer(desk.proof(name, operation_id))
                case [_, "webhooks"]:
                    self._answer(desk.webhooks.make())
                case [name]:
                    self._answer({"access_token": desk.sign_in(name)})

        def do_DELETE(self) -> None:
            desk.give_up(self.path[1:])
            self._answer({})

        def _answer(self, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer((HOST, 0), Window) as listener:
        thread = Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield f"http://{HOST}:{listener.server_port}"
        finally:
            listener.shutdown()
            thread.join()
            desk.close()
