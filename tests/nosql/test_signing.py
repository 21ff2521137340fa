"""The signature of calls to DynamoDB: the same bytes as botocore's own class makes, whatever is signed."""

from datetime import UTC, datetime, timedelta

import pytest
from botocore import auth
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError

from controlplane.nosql import signing
from controlplane.nosql.signing import CallSignature

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
LASTING = ReadOnlyCredentials("AKIDEXAMPLE", "secret", None)
OF_A_ROLE = ReadOnlyCredentials("ASIAEXAMPLE", "other", "a+token/of=a role")


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The time at which both classes sign: the last entry."""
    times = [NOON]
    for module in (auth, signing):
        monkeypatch.setattr(module, "get_current_datetime", lambda: times[-1])
    return times


def request(
    url: str = "https://dynamodb.eu-central-1.amazonaws.com/", body: bytes = b"{}", **headers: str
) -> AWSRequest:
    given = {"X-Amz-Target": "DynamoDB_20120810.GetItem", "Content-Type": "application/x-amz-json-1.0"}
    return AWSRequest("POST", url, headers={**given, "User-Agent": "hybrid-ci-cd", **headers}, data=body)


def signed(kind: type[SigV4Auth], made: AWSRequest, credentials: ReadOnlyCredentials, region: str) -> dict[str, str]:
    kind(credentials, "dynamodb", region).add_auth(made)
    return dict(made.headers.items())


@pytest.mark.parametrize("credentials", [LASTING, OF_A_ROLE], ids=["user", "role"])
@pytest.mark.parametrize("region", ["eu-central-1", "us-gov-west-1"])
@pytest.mark.parametrize(
    "made",
    [
        {},
        {"body": '{"TableName": "größe"}'.encode()},
        {"url": "http://127.0.0.1:4566/"},
        {"url": "http://[::1]:80/"},
        {"url": "https://gateway.example:8443/a path/./to~it/"},
        {"X-Amzn-Trace-Id": "Root=1", "amz-sdk-request": "attempt=1", "X-Note": "  several   spaces "},
        {"Authorization": "of the first try", "X-Amz-Date": "20261126T115900Z", "X-Amz-Security-Token": "old"},
    ],
    ids=["plain", "unicode", "port", "ipv6", "path", "headers", "retry"],
)
@pytest.mark.usefixtures("moment")
def test_a_call_is_signed_as_botocore_signs_it(
    made: dict[str, str], region: str, credentials: ReadOnlyCredentials
) -> None:
    ours = signed(CallSignature, request(**made), credentials, region)  # type: ignore[arg-type]
    assert ours == signed(SigV4Auth, request(**made), credentials, region)  # type: ignore[arg-type]


def test_the_kept_key_ends_with_its_day_and_its_credentials(moment: list[datetime]) -> None:
    for credentials in (LASTING, OF_A_ROLE, LASTING):
        for later in (timedelta(), timedelta(hours=11), timedelta(hours=13), timedelta()):
            moment.append(NOON + later)
            ours = signed(CallSignature, request(), credentials, "eu-central-1")
            assert ours == signed(SigV4Auth, request(), credentials, "eu-central-1")


def test_without_credentials_nothing_is_signed() -> None:
    with pytest.raises(NoCredentialsError):
        CallSignature(None, "dynamodb", "eu-central-1").add_auth(request())
