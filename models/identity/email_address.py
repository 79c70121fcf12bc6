"""Email addresses: stored as given, compared by a normalized key."""

# ruff: noqa: RUF002 - The docstring shows confusable characters on purpose.
import re
import unicodedata
from dataclasses import dataclass

from models.errors import InvalidEmail
from models.text import trim

# Invisible characters (Default_Ignorable_Code_Point) that the validator accepts.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_LONGEST_LOCAL_PART = 64
_LOCAL = re.compile(r"\.local\Z", re.IGNORECASE)
_DOTTED_I = re.compile("i\u0307+")
_WORD = re.compile(r"[^\W\d_]+")
_LOOKALIKE_ALPHABETS = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC"})


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """A valid address (RFC 5321, RFC 6531): `given` is the original, `key` the normalized form.

    Two addresses identify the same account if their keys are equal. The key covers every mapping
    that a mail system, a browser or a database may apply on the way to the same mailbox:

    - The domain is decoded from Punycode (IDNA 2008), so both spellings are equal.
    - Compatibility and canonical forms are unified (NFKC): ﬁ and fi, Ａ and A, é as one character
      or two, the Kelvin sign and k, long ſ and s.
    - Case is folded for every locale. Converting to upper case first unifies Turkish dotless ı
      with I and therefore i. Full case folding unifies ß with ss and ς with σ. The combining dot
      that İ leaves in lower case is removed.
    - Invisible characters are removed.

    Differences that mail systems respect are preserved: dots, `+tags`, accents. A word that mixes
    look-alike alphabets (Latin with Cyrillic or Greek) is invalid (UTS 39, section 5.2). An address
    whose key is not a valid address, such as one with a full-width at sign, is also invalid.

    The validator rejects unassigned code points, and Unicode never changes the folding of assigned
    ones. A stored key therefore stays correct when Python is upgraded.
    """

    given: str
    key: str

    @classmethod
    def normal_form(cls, text: str) -> str:
        """Return the key of an address, or the text unchanged if it is not a valid address."""
        try:
            return cls.parse(text, local=True).key
        except InvalidEmail:
            return text

    @classmethod
    def parse(cls, text: str, *, local: bool = False) -> "EmailAddress":
        """Parse and validate an address without network access.

        The reserved domain `test` is accepted for testing (RFC 2606). `localhost`, `invalid` and
        other undeliverable names are not. With `local`, domains below `local` are accepted, which
        some networks use internally (RFC 6762, appendix G). Blanks and invisible marks around it,
        which are often copied along, are not part of the address.

        Raises:
            InvalidEmail: The text is not a valid address, or it mixes look-alike alphabets.
        """
        text = trim(text)
        key = _fold(_validate(text, local=local))
        _validate(key, local=local)
        for word in _WORD.findall(key):
            alphabets = {unicodedata.name(letter, "").split(" ")[0] for letter in word}
            if len(alphabets & _LOOKALIKE_ALPHABETS) > 1:
                raise InvalidEmail("An email address cannot mix alphabets that look alike.")
        return cls(text, key)


def _validate(text: str, *, local: bool) -> str:
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415 - loading it takes 40 ms.

    # The validator has no option to accept `local`.
    known = _LOCAL.sub(".test", text) if local else text
    try:
        checked = validate_email(known, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        # The validator's message quotes the input, so it is not passed on.
        raise InvalidEmail from None
    # Mail servers refuse longer ones (RFC 5321, section 4.5.3.1.1).
    if len(checked.local_part.encode()) > _LONGEST_LOCAL_PART:
        raise InvalidEmail("The part of an email address before the @ has at most 64 bytes.")
    normalized = checked.normalized
    return normalized if known == text else f"{normalized.removesuffix('.test')}.local"


def _fold(text: str) -> str:
    """Return the canonical form that an address shares with all its variants."""
    upper = unicodedata.normalize("NFKD", _INVISIBLE.sub("", text)).upper()
    folded = _DOTTED_I.sub("i", unicodedata.normalize("NFKC", upper.casefold()))
    # Folding can produce text that folds further, so it repeats until nothing changes.
    return folded if folded == text else _fold(folded)
