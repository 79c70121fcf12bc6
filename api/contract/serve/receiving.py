"""Receiving the body of a request: JSON, a form or a file."""

from collections.abc import Mapping

from starlette.types import Receive

from api.contract.compile.operations import Operation
from api.contract.compile.request_bodies import Body, Form
from api.contract.ports import ReadFile, Settings
from api.contract.serve.bodies import Allowance, Budget, read_json, receive_form, receive_text
from api.contract.serve.bridge import Bridge
from api.contract.serve.forms import FormReader, uploads
from api.contract.serve.rate_limits import network_of
from api.contract.serve.request import Request

_BODIES, _BODIES_OF_A_CLIENT = 8, 2
"""Bodies of maximum size that may be in transit at once: in total, and from one client."""
_LARGE_BODY = 8 * 1024
"""Bytes above which parsing a body can take a millisecond and is done in a thread."""


class BodyReceiver:
    """Receives bodies on the event loop; parsing that can take long is done in a thread."""

    def __init__(self, bridge: Bridge, readers: Mapping[str, ReadFile], settings: Settings) -> None:
        self._run = bridge.run
        self._readers = readers
        self._settings = settings
        most_bytes = settings.max_body_bytes
        self._budget = Budget(_BODIES * most_bytes, _BODIES_OF_A_CLIENT * most_bytes)

    async def receive(self, request: Request, operation: Operation, receive: Receive) -> None:
        """Receive and validate the body that the operation declares.

        Raises as `receive_body`, and `read_json` or `FormReader` do.
        """
        if operation.body is not None:
            await self._receive_json(request, operation.body, receive)
        elif operation.form is not None:
            await self._receive_form(request, operation.form, receive)

    async def _receive_json(self, request: Request, body: Body, receive: Receive) -> None:
        text = await receive_text(receive, request.fields, self._allow(request, body.most_bytes))
        pool = "requests" if len(text) > _LARGE_BODY else "inline"
        request.body = await self._run(pool, read_json, body, request.fields, text)

    async def _receive_form(self, request: Request, form: Form, receive: Receive) -> None:
        reader = request.form = FormReader(form, request.fields.get("content-type", ""))

        async def read(piece: bytes) -> None:
            # A thread is taken only for bytes that have arrived, so slow clients hold none.
            await self._run("requests", reader.write, piece)

        allowance = self._allow(request, form.most_bytes)
        await receive_form(receive, request.fields, allowance, read)
        request.body = await self._run("requests", reader.finish)

    def _allow(self, request: Request, most_bytes: int | None) -> Allowance:
        """Return the limits for the body of a request."""
        limit = self._settings.max_body_bytes
        return Allowance(
            limit if most_bytes is None else min(limit, most_bytes),
            self._settings.body_timeout,
            self._budget,
            network_of(request.client_address),
        )

    async def read_files(self, request: Request, operation: Operation) -> None:
        """Replace each file that has a reader with the reader's result.

        This happens before the transaction of the request starts, because it can be slow.
        """
        if operation.form is None:
            return
        for part, upload in list(uploads(operation.form, request.body)):
            read = self._readers[part.reader or ""]
            value = await self._run(operation.pool, read, upload.file)
            if request.body is upload:
                request.body = value
            elif part.is_array:
                members = request.body[part.name]
                members[members.index(upload)] = value
            else:
                request.body[part.name] = value
