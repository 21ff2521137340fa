"""``POST /agents/{agent_id}/jobs/{job_id}/reports/{attempt}/{number}``: test results and coverage of an attempt."""

import re
from typing import Any
from urllib.parse import unquote

from django.http import HttpRequest

from apps.agents.authentication import SignedRequest
from apps.jobs.agent_api.requests import agent_endpoint, decoded_body
from apps.jobs.reports.results import REPORT_LIMIT, ReportKind
from apps.jobs.serializers.agent_protocol import REPORT_COMMIT, REPORT_FILE
from apps.jobs.services import report_add
from controlplane.http.body_limits import body_limit
from controlplane.http.documented import documented
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput

# Lambda takes bodies of up to 6 MB, in which a binary one is in base64. Reports compress to a tenth of their size.
REPORT_BODY_LIMIT = 4_000_000

_FILE, _COMMIT = re.compile(REPORT_FILE), re.compile(REPORT_COMMIT)


@documented("post", "apps.jobs.agent_api.documentation.REPORT")
@body_limit(REPORT_BODY_LIMIT)
@agent_endpoint
def report(request: HttpRequest, signed: SignedRequest, job_id: str, attempt: int, number: int) -> dict[str, Any]:
    """Report a file with test results or coverage, before the end of the attempt. The same number may be sent again."""
    kind, file, commit = _headers(request)
    data, _ = decoded_body(request, limit=REPORT_LIMIT, code=ErrorCode.REPORT_TOO_LARGE)
    stored = report_add(
        agent_id=signed.agent_id,
        job_id=job_id,
        attempt=attempt,
        number=number,
        kind=kind,
        file=file,
        commit=commit,
        data=data,
    )
    return {"total": stored.total, "failed": stored.failed, "skipped": stored.skipped, "coverage": stored.rate}


def _headers(request: HttpRequest) -> tuple[ReportKind, str, str | None]:
    """The kind of the report, its path in the workspace, and the commit. Raises InvalidInput."""
    kind = request.headers.get("Report-Kind", "")
    if kind not in set(ReportKind):
        raise InvalidInput.field("Report-Kind", f"must be one of {', '.join(ReportKind)}")
    file = request.headers.get("Report-File", "")
    if not _FILE.fullmatch(file):
        raise InvalidInput.field("Report-File", "must be a path, percent-encoded")
    commit = request.headers.get("Report-Commit")
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise InvalidInput.field("Report-Commit", "must be the hash of a commit")
    return ReportKind(kind), unquote(file, errors="replace"), commit
