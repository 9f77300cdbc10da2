"""What the server refuses, and with which status of HTTP.

RefusedError            409: the rules do not allow it now
├── UnauthorisedError   401: nobody asks
├── ForbiddenError      403: somebody asks whose token does not reach so far
├── UnknownError        404: it does not exist, or is not the asker's to see
├── MalformedError      422: it cannot be accepted however often it is sent
└── TooManyError        429: more than the rules allow in this time
"""

import unicodedata

from bughunt.errors import BughuntError

MAX_NAME = 40


class RefusedError(BughuntError):
    """An act that the rules do not allow now; `status` is what HTTP says of it, `retry` seconds to wait."""

    code = "refused"
    status = 409

    def __init__(self, message: str, remedy: str = "", *, retry: int = 0) -> None:
        super().__init__(message, remedy)
        self.retry = retry

    def body(self) -> dict[str, str]:
        """What the answer says; half a character that was sent comes back as a question mark."""
        said = {"code": self.code, "message": self.message, "remedy": self.remedy}
        return {name: text.encode("utf-8", "replace").decode() for name, text in said.items()}

    def headers(self) -> dict[str, str]:
        return {"retry-after": str(self.retry)} if self.retry else {}


class UnknownError(RefusedError):
    """A token, team or submission that does not exist, or is not the asker's to see."""

    code = "unknown"
    status = 404


class TooManyError(RefusedError):
    """More than the rules allow in this time."""

    code = "too-many"
    status = 429


class MalformedError(RefusedError):
    """Something that cannot be accepted however often it is sent."""

    code = "malformed"
    status = 422


class UnauthorisedError(RefusedError):
    """No token, or one that is not valid."""

    code = "unauthorised"
    status = 401


class ForbiddenError(RefusedError):
    """A valid token that does not reach so far."""

    code = "forbidden"
    status = 403


def clean(name: str) -> str:
    """A name as it is shown: composed, without control or direction characters, of a fair length."""
    text = unicodedata.normalize("NFC", name)
    text = "".join(c for c in text if unicodedata.category(c)[0] != "C")
    text = " ".join(text.split())
    if not 1 <= len(text) <= MAX_NAME:
        raise MalformedError(f"a name has 1 to {MAX_NAME} visible characters", "choose another")
    return text
