"""Forms and files, parsed and written to temporary files while they arrive (RFC 7578).

Small files stay in memory. Larger ones are written to a temporary file without a name, which the
system removes even if the process is killed.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import IO, Final, TypeAlias

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.contract.compile.parameters import read_text
from api.contract.compile.request_bodies import FORM_MEDIA_TYPE, Form, Part
from api.contract.engine_errors import (
    InvalidBody,
    Overloaded,
    UnsupportedMediaType,
    Violation,
)

Value: TypeAlias = object

_IN_MEMORY: Final = 64 * 1024
"""Bytes up to which a file stays in memory."""
_ENCODINGS = ("binary", "8bit", "7bit")
# Its warnings repeat what a client sent; every fault becomes a problem instead.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


@dataclass(eq=False, slots=True)
class Upload:
    """A file that a client sent: its content, the media type that the client names, its size."""

    file: IO[bytes]
    media_type: str
    size: int = 0


class FormReader:
    """Reads one body. Its methods block, because they write files."""

    def __init__(self, form: Form, content_type: str) -> None:
        """Choose how to read the body.

        Raises:
            UnsupportedMediaType: the operation does not accept this media type.
            InvalidBody: a form has no valid boundary.
        """
        self._form = form
        self._files: list[Upload] = []
        self._values: dict[str, list[Value]] = {}
        self._violations: list[Violation] = []
        self._part: Part | None = None
        self._text = bytearray()
        self._parser: MultipartParser | None = None
        self._ended = False
        self._size = 0
        media_type, options = _options(content_type)
        if media_type == FORM_MEDIA_TYPE and form.parts:
            boundary = options.get(b"boundary", b"")
            if not boundary:
                raise _fault("multipart", "has no boundary in its Content-Type")
            self._parser = self._make_parser(boundary)
        elif media_type in form.files:
            self._begin(form.files[media_type], media_type)
        elif content_type:
            raise UnsupportedMediaType(form.media_types)

    def _make_parser(self, boundary: bytes) -> MultipartParser:
        heads = _Heads(self._begin_part)
        try:
            return MultipartParser(
                boundary,
                {
                    "on_header_field": heads.add_name,
                    "on_header_value": heads.add_value,
                    "on_header_end": heads.end_field,
                    "on_headers_finished": heads.end,
                    "on_part_data": self._on_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise _fault("multipart", "has a boundary that is too long") from None

    def write(self, data: bytes) -> None:
        """Read the next bytes of the body.

        Raises:
            InvalidBody: the form is malformed, or has a part that is too large or not declared.
            Overloaded: the temporary folder has no room for a file.
            UnsupportedMediaType: the body has no media type.
        """
        self._size += len(data)
        if self._parser is None and self._part is None:
            raise UnsupportedMediaType(self._form.media_types)
        if self._parser is None:
            self._add(data)
            return
        try:
            self._parser.write(data)
        except FormParserError:
            raise _fault("multipart", "is not well-formed multipart/form-data") from None

    def finish(self) -> object:
        """Return the valid body: the members of the form, or the file.

        Raises:
            InvalidBody: the body is incomplete, or violates its schema.
            Overloaded: the temporary folder has no room for a file.
        """
        form = self._form
        if not self._size:
            if form.required:
                raise _fault("required", "is required")
            return None
        if self._parser is None:
            self._end_part()
        elif not self._ended:
            raise _fault("multipart", "ends before its last boundary")
        if not form.parts:
            self._refuse()
            return self._files[0]
        files = {name: found for name, found in self._values.items() if form.parts[name].is_file}
        # The validator sees that a file is there, but not its content.
        unseen: dict[str, list[Value]] = {name: [None] * len(files[name]) for name in files}
        values = self._members({**self._values, **unseen})
        if not form.validator.is_valid(values):
            violations, missing = form.validator.violations(values)
            raise InvalidBody([*self._violations, *violations], missing)
        self._refuse()
        return (form.normalise(values) if form.normalise else values) | self._members(files)

    def _members(self, values: Mapping[str, list[Value]]) -> dict[str, Value]:
        parts = self._form.parts
        return {name: found if parts[name].is_array else found[0] for name, found in values.items()}

    def close(self) -> None:
        """Remove the files."""
        for upload in self._files:
            # Closing a file writes its buffer, for which there may be no disk space.
            with suppress(OSError):
                upload.file.close()

    def _refuse(self) -> None:
        if self._violations:
            raise InvalidBody(self._violations)

    def _begin_part(self, fields: Mapping[bytes, bytes]) -> None:
        """Begin the part that has these headers."""
        parts = self._form.parts
        disposition, options = _options(fields.get(b"content-disposition", b"").decode("latin-1"))
        name = options.get(b"name")
        if disposition != "form-data" or name is None:
            raise _fault("multipart", "has a part without a name")
        part = parts.get(name.decode("utf-8", "replace"))
        if part is None:
            declared = ", ".join(parts)
            reason = f"has an undeclared member; declared members are: {declared}"
            raise _fault("additionalProperties", reason)
        if len(self._values.get(part.name, ())) >= part.most:
            reason = f"must have at most {part.most} parts" if part.is_array else "is given twice"
            raise _fault("maxItems", reason, part)
        encoding = fields.get(b"content-transfer-encoding", b"binary").decode("latin-1")
        if encoding.lower() not in _ENCODINGS:
            # RFC 7578, section 4.7, deprecates this header.
            raise _fault("encoding", "has a Content-Transfer-Encoding; send it unencoded", part)
        self._begin(part, fields.get(b"content-type", b"").decode("latin-1"))

    def _begin(self, part: Part, content_type: str) -> None:
        self._part = part
        media_type, options = _options(content_type or _default(part))
        if part.name and part.media_types and media_type not in part.media_types:
            accepted = ", ".join(part.media_types)
            self._violations.append(
                Violation(_pointer(part), "contentType", f"must have one of the types {accepted}")
            )
        if part.is_file:
            file: IO[bytes] = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - `close` does.
            self._files.append(Upload(file, media_type))
            return
        self._text.clear()
        if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8", b"us-ascii"):
            raise _fault("encoding", "must be text in UTF-8", part)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._add(data[start:end])

    def _add(self, data: bytes) -> None:
        part = self._part
        if part is None:
            return
        if not part.is_file:
            self._text += data
            if len(self._text) > part.most_bytes:
                raise _fault("maxLength", f"must have at most {part.most_bytes} bytes", part)
            return
        upload = self._files[-1]
        upload.size += len(data)
        if upload.size > part.most_bytes:
            raise _fault("maxLength", f"must have at most {part.most_bytes} bytes", part)
        with _room():
            upload.file.write(data)

    def _end_part(self) -> None:
        part = self._part
        if part is None:
            return
        self._part = None
        self._values.setdefault(part.name, []).append(
            self._end_file(part) if part.is_file else self._read_text(part)
        )

    def _end_file(self, part: Part) -> Upload:
        upload = self._files[-1]
        with _room():
            upload.file.seek(0)
        if upload.size < part.least_bytes:
            reason = f"must have at least {part.least_bytes} bytes"
            self._violations.append(Violation(_pointer(part), "minLength", reason))
        return upload

    def _read_text(self, part: Part) -> Value:
        try:
            text = self._text.decode("utf-8", "strict")
        except UnicodeDecodeError:
            raise _fault("encoding", "must be text in UTF-8", part) from None
        if "\0" in text:
            raise _fault("encoding", "has a control character", part)
        return read_text(part.kind, text)

    def _end(self) -> None:
        self._ended = True


@dataclass(slots=True)
class _Heads:
    """Collects the headers of each part."""

    begin: Callable[[Mapping[bytes, bytes]], None]
    _name: bytes = b""
    _value: bytes = b""
    _fields: dict[bytes, bytes] = field(default_factory=dict)

    def add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end_field(self) -> None:
        name = self._name.lower()
        if name in self._fields:
            raise _fault("multipart", "has a part that repeats a header")
        self._fields[name] = self._value
        self._name = self._value = b""

    def end(self) -> None:
        fields, self._fields = self._fields, {}
        self.begin(fields)


def uploads(form: Form, body: object) -> Iterator[tuple[Part, Upload]]:
    """Yield the files of a body that have a reader, each with its declaration."""
    if isinstance(body, Upload):
        part = form.files[body.media_type]
        if part.reader is not None:
            yield part, body
    elif isinstance(body, dict):
        for name, value in body.items():
            part = form.parts[name]
            if part.reader is not None:
                for each in value if part.is_array else [value]:
                    yield part, each


@contextmanager
def _room() -> Iterator[None]:
    """Raise `Overloaded` if a file cannot be written to the temporary folder."""
    try:
        yield
    except OSError as error:
        raise Overloaded("The file could not be written to disk; try again shortly.") from error


def _default(part: Part) -> str:
    """Return the media type of a part that names none."""
    return "application/octet-stream" if part.is_file else "text/plain"


def _options(value: str) -> tuple[str, dict[bytes, bytes]]:
    media_type, options = parse_options_header(value)
    return media_type.decode("latin-1"), options


def _fault(code: str, message: str, part: Part | None = None) -> InvalidBody:
    return InvalidBody([Violation(_pointer(part) if part else "", code, message)])


def _pointer(part: Part) -> str:
    """Return the JSON Pointer to a part; a file outside a form is the whole body."""
    return f"/{part.name}" if part.name else ""
