"""Email addresses: kept as given, and compared by a form in which twins are one."""

# ruff: noqa: RUF002 - the twins are shown as they are
import re
import unicodedata
from dataclasses import dataclass

from email_validator import EmailNotValidError, ValidatedEmail, validate_email

from models.errors import InvalidEmail

# Characters that show nothing (Default_Ignorable_Code_Point) and that the validator lets pass.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_DOTTED_I = re.compile("i\u0307+")
_WORD = re.compile(r"[^\W\d_]+")
_LOOKALIKE_ALPHABETS = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC"})


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """A valid address (RFC 5321, RFC 6531): `given` as it was typed, `key` as it is compared.

    Two addresses are one account when their keys are equal. The key answers to every mapping that
    a mail system, a browser or a database may apply on the way to the same mailbox:

    - the domain is decoded from Punycode (IDNA 2008), so both spellings of it are one;
    - compatibility and canonical forms fall together (NFKC): ﬁ and fi, Ａ and A, é typed as one
      character or as two, the Kelvin sign and k, long ſ and s;
    - case falls together in every locale: going through upper case first joins Turkish dotless
      ı with I and so with i; full case folding joins ß with ss and ς with σ; the dot that İ
      leaves behind in lower case is dropped;
    - characters that show nothing are dropped.

    What mail systems keep apart stays apart: dots, `+tags`, accents. A word that mixes alphabets
    which look alike (Latin with Cyrillic or Greek) is refused (UTS 39, section 5.2), and so is an
    address whose key is no address, such as one with a full-width at sign.

    Code points that are not assigned yet are refused by the validator, and Unicode never changes
    the folding of assigned ones, so a stored key stays right when Python is upgraded.
    """

    given: str
    key: str

    @classmethod
    def normal_form(cls, text: str) -> str:
        """Return the key of an address, or for what is none the text itself."""
        try:
            return cls.parse(text).key
        except InvalidEmail:
            return text

    @classmethod
    def parse(cls, text: str) -> "EmailAddress":
        """Check an address without asking the network.

        The reserved domain `test` is accepted, for trials (RFC 2606); `localhost`, `invalid` and
        other names that mail cannot reach are not. Nothing is trimmed.

        Raises:
            InvalidEmail: this is no address, or one made to be mistaken for another.
        """
        key = _fold(_validate(text).normalized)
        _validate(key)
        for word in _WORD.findall(key):
            alphabets = {unicodedata.name(letter, "").split(" ")[0] for letter in word}
            if len(alphabets & _LOOKALIKE_ALPHABETS) > 1:
                raise InvalidEmail("An email address cannot mix alphabets that look alike.")
        return cls(text, key)


def _validate(text: str) -> ValidatedEmail:
    try:
        return validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        # The validator's message quotes what was sent, so it is not passed on.
        raise InvalidEmail from None


def _fold(text: str) -> str:
    """Map an address to the one that stands for all its twins."""
    upper = unicodedata.normalize("NFKD", _INVISIBLE.sub("", text)).upper()
    folded = _DOTTED_I.sub("i", unicodedata.normalize("NFKC", upper.casefold()))
    # Folding can uncover something to fold, so it goes on until nothing changes.
    return folded if folded == text else _fold(folded)
