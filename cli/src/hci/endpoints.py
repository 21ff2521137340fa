"""Every endpoint of the control plane that the program calls. A test compares them with the control plane's /schema."""

from __future__ import annotations

from dataclasses import dataclass

_PAGE = ("cursor", "limit")


@dataclass(frozen=True)
class Endpoint:
    """A method and a path, and the names that a call may send: in the query, in the JSON body, and as headers.

    One that only `reads` can be asked again, whatever its method.
    """

    method: str
    path: str
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    reads: bool = False


_KEY = ("Idempotency-Key",)

INFO = Endpoint("GET", "/info")
DEVICE_AUTHORIZATION = Endpoint("POST", "/auth/device-authorization", body=("name",))
DEVICE_TOKEN = Endpoint("POST", "/auth/device-token", body=("device_code",))
WHOAMI = Endpoint("GET", "/auth/whoami")

RUNS = Endpoint("GET", "/runs", (*_PAGE, "branch", "event", "pipeline", "requested_by", "status"))
RUN = Endpoint("GET", "/runs/{run_id}")
RUN_CREATE = Endpoint(
    "POST",
    "/runs",
    body=("pipeline", "git_ref", "priority", "env", "labels", "parameters", "reuse"),
    headers=_KEY,
)
RUN_CANCEL = Endpoint("POST", "/runs/{run_id}/cancel")
RUN_RETRY = Endpoint("POST", "/runs/{run_id}/retry", body=("everything",))
RUN_ARTIFACTS = Endpoint("GET", "/runs/{run_id}/artifacts", _PAGE)

ENVIRONMENTS = Endpoint("GET", "/environments")
ENVIRONMENT = Endpoint("GET", "/environments/{name}")
DEPLOYMENTS = Endpoint("GET", "/deployments", (*_PAGE, "environment", "pipeline", "run_id", "status"))
DEPLOYMENT = Endpoint("GET", "/deployments/{deployment_id}")
DEPLOYMENT_CREATE = Endpoint(
    "POST", "/deployments", body=("environment", "pipeline", "git_ref", "run_id", "parameters"), headers=_KEY
)
DEPLOYMENT_APPROVE = Endpoint("POST", "/deployments/{deployment_id}/approve", body=("comment",))
DEPLOYMENT_REJECT = Endpoint("POST", "/deployments/{deployment_id}/reject", body=("comment",))
DEPLOYMENT_ROLLBACK = Endpoint("POST", "/deployments/{deployment_id}/rollback", headers=_KEY)

JOBS = Endpoint("GET", "/jobs", (*_PAGE, "agent", "ended", "git_ref", "pipeline", "status"))
JOB = Endpoint("GET", "/jobs/{job_id}")
JOB_CANCEL = Endpoint("POST", "/jobs/{job_id}/cancel")
JOB_RETRY = Endpoint("POST", "/jobs/{job_id}/retry", headers=_KEY)
JOB_LOG = Endpoint("GET", "/jobs/{job_id}/log", ("attempt", "limit", "offset", "step", "tail", "timestamps"))
JOB_ARTIFACTS = Endpoint("GET", "/jobs/{job_id}/artifacts")

ARTIFACT_DOWNLOAD = Endpoint("GET", "/artifacts/{artifact_id}/download")
ARTIFACT_PROVENANCE = Endpoint("GET", "/artifacts/{artifact_id}/provenance")

AGENTS = Endpoint("GET", "/agents", (*_PAGE, "region", "status"))
STATUS = Endpoint("GET", "/status")
AGENT_DEMAND = Endpoint("GET", "/agents/demand", ("labels",))
AGENT_DRAIN = Endpoint("POST", "/agents/{agent_id}/drain")
AGENT_RESUME = Endpoint("POST", "/agents/{agent_id}/resume")

PIPELINES = Endpoint("GET", "/pipelines", _PAGE)
PIPELINE = Endpoint("GET", "/pipelines/{name}")
PIPELINE_SAVE = Endpoint(
    "PUT",
    "/pipelines/{name}",
    body=(
        *("repository", "default_ref", "definition", "labels"),
        *("fetch_secret", "source", "source_repository", "badge"),
    ),
)
DEFINITION_CHECK = Endpoint("POST", "/definitions/check", body=("definition",), reads=True)
DEFINITION_IMPORT = Endpoint("POST", "/definitions/import", body=("product", "text"), reads=True)

SECRETS = Endpoint("GET", "/secrets", _PAGE)
SECRET = Endpoint("GET", "/secrets/{secret_id}")
SECRET_CREATE = Endpoint("POST", "/secrets", body=("name", "value", "scope", "description", "owner"))
SECRET_SET = Endpoint("PUT", "/secrets/{secret_id}/value", body=("value",))
SECRET_DELETE = Endpoint("DELETE", "/secrets/{secret_id}")
SECRET_VERSIONS = Endpoint("GET", "/secrets/{secret_id}/versions")
SECRET_ROTATE = Endpoint("POST", "/secrets/{secret_id}/rotate")
SECRET_ROTATIONS = Endpoint("GET", "/secrets/{secret_id}/rotations", _PAGE)
ROTATION = Endpoint("GET", "/rotations/{rotation_id}")
ROTATION_HASTEN = Endpoint("POST", "/rotations/{rotation_id}/hasten")
ROTATION_STOP = Endpoint("POST", "/rotations/{rotation_id}/stop")

_TRAIL = ("action", "actor", "from", "target", "to")
AUDIT = Endpoint("GET", "/audit", (*_PAGE, *_TRAIL))
AUDIT_EXPORT = Endpoint("GET", "/audit/export", (*_PAGE, *_TRAIL, "format", "schema"))
