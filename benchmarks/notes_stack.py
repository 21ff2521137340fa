"""Three endpoints in the style of the earlier notes: FastAPI behind Mangum, with boto3's table resources.

Written for the comparison with ours, in these frameworks' usual way and with as many calls to DynamoDB: the request
checked, the agent known by an HMAC of its body under a key that is kept in memory, the frontend's origin allowed.

As FastAPI's documentation advises, endpoints that do not wait are ``async def``. Endpoints that call a library that
cannot be awaited, such as boto3, are ``def``, and FastAPI runs them in threads. With NOTES_INLINE, none are: this
blocks the loop, but Lambda gives a process one request at a time, and it is the fastest form of this stack.
"""

import base64
import hashlib
import hmac
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import wraps
from typing import Annotated, Any

import boto3
from boto3.dynamodb.conditions import Key
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from mangum import Mangum
from pydantic import BaseModel, Field

VERSION = "0.1.0"

dynamodb = boto3.resource("dynamodb", region_name="eu-central-1")
sessions = dynamodb.Table("notes-sessions")
agents = dynamodb.Table("notes-agents")
heartbeats = dynamodb.Table("notes-heartbeats")
queue = dynamodb.Table("notes-queue")

app = FastAPI(title="hybrid-ci-cd", version=VERSION)
app.add_middleware(
    CORSMiddleware,
    allow_origins=["https://app.example.com"],
    allow_credentials=True,
    allow_methods=["*"],
    allow_headers=["*"],
)
keys: dict[str, bytes] = {}


def blocking(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Run an endpoint in a thread, or with NOTES_INLINE in the loop itself."""

    @wraps(endpoint)
    async def inline(*args: Any, **kwargs: Any) -> Any:
        return endpoint(*args, **kwargs)

    return inline if "NOTES_INLINE" in os.environ else endpoint


class Health(BaseModel):
    status: str
    version: str


class ValidateRequest(BaseModel):
    session_id: str = Field(min_length=1, max_length=200)


class ValidateResponse(BaseModel):
    valid: bool
    user_id: str | None = None
    provider: str | None = None
    expires_at: datetime | None = None


class RunningJob(BaseModel):
    job_id: str
    attempt: int


class Heartbeat(BaseModel):
    agent_id: str
    cpu_percent: float = Field(ge=0, le=100)
    memory_percent: float = Field(ge=0, le=100)
    disk_percent: float = Field(ge=0, le=100)
    jobs_queued: int = Field(ge=0)
    jobs_completed: int = Field(ge=0)
    uptime_seconds: float = Field(ge=0)
    free_slots: int = Field(default=0, ge=0)
    running: list[RunningJob] = []
    config_version: int = 0


class HeartbeatResponse(BaseModel):
    status: str
    next_check_interval: int
    config_version: int
    jobs: list[RunningJob]


@app.get("/health")
async def health() -> Health:
    return Health(status="healthy", version=VERSION)


@app.post("/auth/validate")
@blocking
def validate(request: ValidateRequest) -> ValidateResponse:
    hashed = hashlib.sha256(request.session_id.encode()).hexdigest()
    item = sessions.get_item(Key={"session_id": hashed}, ConsistentRead=True).get("Item")
    if item is None or item["expires_at"] < time.time():
        return ValidateResponse(valid=False)
    return ValidateResponse(
        valid=True,
        user_id=item["user_id"],
        provider=item["provider"],
        expires_at=datetime.fromtimestamp(int(item["expires_at"]), UTC),
    )


def agent_key(agent_id: str) -> bytes:
    if agent_id not in keys:
        item = agents.get_item(Key={"agent_id": agent_id}, ConsistentRead=True).get("Item")
        if item is None:
            raise HTTPException(401, "unknown agent")
        keys[agent_id] = item["key"].value
    return keys[agent_id]


async def raw_body(request: Request) -> bytes:
    return await request.body()


@app.post("/agents/{agent_id}/heartbeat")
@blocking
def heartbeat(
    agent_id: str,
    body: Heartbeat,
    raw: Annotated[bytes, Depends(raw_body)],
    x_signature: Annotated[str, Header()],
) -> HeartbeatResponse:
    expected = hmac.digest(agent_key(agent_id), raw, "sha256")
    if not hmac.compare_digest(base64.b64encode(expected).decode(), x_signature):
        raise HTTPException(401, "wrong signature")
    if body.agent_id != agent_id:
        raise HTTPException(422, "another agent's heartbeat")
    values: dict[str, Any] = {
        ":at": Decimal(str(time.time())),
        ":cpu": Decimal(str(body.cpu_percent)),
        ":memory": Decimal(str(body.memory_percent)),
        ":disk": Decimal(str(body.disk_percent)),
        ":queued": body.jobs_queued,
        ":completed": body.jobs_completed,
        ":uptime": Decimal(str(body.uptime_seconds)),
        ":free": body.free_slots,
        ":running": [job.model_dump() for job in body.running],
    }
    heartbeat = heartbeats.update_item(
        Key={"agent_id": agent_id},
        UpdateExpression=(
            "SET last_heartbeat = :at, cpu_percent = :cpu, memory_percent = :memory, disk_percent = :disk, "
            "jobs_queued = :queued, jobs_completed = :completed, uptime_seconds = :uptime, free_slots = :free, "
            "running = :running"
        ),
        ConditionExpression="attribute_exists(agent_id)",
        ExpressionAttributeValues=values,
        ReturnValues="ALL_NEW",
    )["Attributes"]
    waiting = queue.query(KeyConditionExpression=Key("part").eq("sets"), ConsistentRead=True)["Items"]
    return HeartbeatResponse(
        status=heartbeat["status"],
        next_check_interval=15 if not waiting else 5,
        config_version=body.config_version,
        jobs=[],
    )


handler = Mangum(app, lifespan="off")
