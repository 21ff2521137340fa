"""The description of the agents' endpoints for artifacts and caches, for the API document."""

from apps.jobs.serializers import agent_artifacts as protocol
from controlplane.http.openapi import AGENT, Json, problems


def _described(operation_id: str, request: object, answer: object, *statuses: int) -> Json:
    return {
        "operation_id": operation_id,
        "request": request,
        "responses": {200: answer, **problems(409, *statuses)},
        "security": AGENT,
    }


ARTIFACT = _described("artifact_store", protocol.ARTIFACT, protocol.ARTIFACT_ANSWER, 422)
ARTIFACT_COMPLETE = _described("artifact_complete", protocol.COMPLETE, protocol.COMPLETE_ANSWER)
FETCH = _described("artifacts_fetch", protocol.FETCH, protocol.FETCH_ANSWER)
RESTORE = _described("cache_restore", protocol.RESTORE, protocol.RESTORE_ANSWER)
SAVE = _described("cache_save", protocol.SAVE, protocol.SAVE_ANSWER, 422)
CACHE_COMPLETE = _described("cache_complete", protocol.COMPLETE, protocol.COMPLETE_ANSWER)
