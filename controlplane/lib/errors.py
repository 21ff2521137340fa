"""The one family of errors that services raise; `controlplane.http.problems` turns it into responses (RFC 9457)."""

from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.lib.error_codes import ErrorCode


class ApplicationError(Exception):
    """Something that the caller is told.

    `code` is stable and for programs, `message` is one sentence for people, `errors` lists the fields at fault, each as
    ``{"field": …, "message": …}``. None of them ever holds a secret. `status` is HTTP's, `retry_after` in seconds.
    """

    status: int = 400
    code: ErrorCode = ErrorCode.BAD_REQUEST

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode | None = None,
        status: int | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.status = status or self.status
        self.errors = list(errors)
        self.retry_after = retry_after


class InvalidInput(ApplicationError):
    """The request can't be understood or breaks a rule; `errors` names the field."""

    status = 400
    code = ErrorCode.INVALID_INPUT

    @classmethod
    def field(cls, field: str, message: str, *, code: ErrorCode | None = None) -> "InvalidInput":
        """The usual case: one field is wrong."""
        return cls(f"{field}: {message}", code=code, errors=[{"field": field, "message": message}])


class NotAuthenticated(ApplicationError):
    status = 401
    code = ErrorCode.NOT_AUTHENTICATED


class Forbidden(ApplicationError):
    status = 403
    code = ErrorCode.FORBIDDEN


class NotFound(ApplicationError):
    status = 404
    code = ErrorCode.NOT_FOUND


class Conflict(ApplicationError):
    """The thing is not in a state in which this may happen."""

    status = 409
    code = ErrorCode.CONFLICT


class TooLarge(ApplicationError):
    status = 413
    code = ErrorCode.TOO_LARGE


class Unprocessable(ApplicationError):
    status = 422
    code = ErrorCode.UNPROCESSABLE


class TooManyRequests(ApplicationError):
    status = 429
    code = ErrorCode.TOO_MANY_REQUESTS


class Unavailable(ApplicationError):
    """DynamoDB or AWS did not answer as it should; the same request may be sent again after `retry_after` seconds."""

    status = 503
    code = ErrorCode.UNAVAILABLE

    def __init__(self, message: str = "The database is not available just now. Please try again.") -> None:
        super().__init__(message, retry_after=2)
