"""The one family of errors that services raise; `controlplane.http.problems` turns it into responses (RFC 9457)."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

from controlplane.lib.error_codes import ErrorCode

# The most errors that one response lists, however many the request has.
MAX_ERRORS = 20


class ApplicationError(Exception):
    """An error for the caller of a service.

    `code` is stable and for programs, `message` is for people, and `errors` lists the invalid fields, each as
    ``{"field": …, "message": …}``. None of them contains a secret. `status` is HTTP's, `retry_after` is in seconds.
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
    """The request is malformed or breaks a rule; `errors` names the field."""

    status = 400
    code = ErrorCode.INVALID_INPUT

    @classmethod
    def field(cls, field: str, message: str, *, code: ErrorCode | None = None) -> "InvalidInput":
        """The error for one invalid field. `message` continues its name."""
        return cls(f"{field}: {message}", code=code, errors=[{"field": field, "message": message}])


def results_of(*checks: Callable[[], Any]) -> list[Any]:
    """What the checks return. Raises one InvalidInput with the errors of all that fail, so that none hides another."""
    results, failed = [], []
    for check in checks:
        try:
            results.append(check())
        except InvalidInput as error:
            failed.append(error)
    if failed:
        errors = [entry for error in failed for entry in error.errors]
        raise InvalidInput(failed[0].message, code=failed[0].code, errors=errors)
    return results


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
    """The state of the object does not allow the operation."""

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
    """DynamoDB or AWS is not available. The client may repeat the request after `retry_after` seconds."""

    status = 503
    code = ErrorCode.UNAVAILABLE

    def __init__(self, message: str = "The database is not available. Try again.") -> None:
        super().__init__(message, retry_after=2)


class RetryLater(Unavailable):
    """Another system refuses for now. `seconds`: not before; None for the usual pause."""

    def __init__(self, message: str, *, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds
        if seconds is not None:
            self.retry_after = max(1, ceil(seconds))
