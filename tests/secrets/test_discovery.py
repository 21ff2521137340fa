"""What verifies identity tokens, as clouds fetch it over HTTP."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from django.test import Client as Browser

from apps.secrets.services.identity_claims import CLAIMS
from controlplane.lib import clock, signing_keys
from controlplane.lib.aws import client
from controlplane.lib.errors import Unavailable
from controlplane.lib.signing_keys import Purpose, signing_key, signing_key_create
from tests.clients import Client, problem
from tests.conftest import CloudServices
from tests.metering import dynamodb_calls

DISCOVERY, KEYS = "/.well-known/openid-configuration", "/.well-known/jwks.json"


@pytest.fixture
def key_folder(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for keys in files, which are short ones."""
    monkeypatch.setattr(signing_keys, "_RSA_BITS", 1024)
    settings.KEY_FILE = tmp_path / "sealing.key"
    return tmp_path / "signing"


def test_the_discovery_document_names_the_issuer_and_its_keys(outsider: Client, server: str) -> None:
    """IAM, Entra ID, Google Cloud and Vault fetch it from the address of the issuer, and then the keys."""
    answer = outsider.get(DISCOVERY)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json() == {
        "issuer": server,
        "jwks_uri": f"{server}{KEYS}",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
        "claims_supported": list(CLAIMS),
    }


def test_the_key_set_has_public_rsa_keys_and_nothing_private(outsider: Client, key_folder: Path) -> None:
    answer = outsider.get(KEYS)
    (key,) = answer.json()["keys"]
    assert key.keys() == {"kty", "use", "alg", "kid", "n", "e"}
    assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
    signer = signing_key(Purpose.IDENTITY)
    assert key["kid"] == signer.key_id
    public: Any = jwt.PyJWK(key).key
    assert public.public_numbers() == signer.public_key.public_numbers()  # type: ignore[union-attr]


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
def test_both_documents_are_public_cacheable_and_cost_no_call_of_the_database(outsider: Client, path: str) -> None:
    first = outsider.get(path)
    with dynamodb_calls() as metering:
        answers = [
            outsider.get(path),
            outsider.get(path, headers={"If-None-Match": '"other"'}),
            # A token that is not valid changes nothing.
            outsider.get(path, headers={"Authorization": "Bearer hci_invalid"}, cookies={"sessionid": "x" * 32}),
        ]
        unchanged = outsider.get(path, headers={"If-None-Match": first.headers["ETag"]})
        looked_at = outsider.request("HEAD", path)
    assert metering.calls == 0
    for answer in answers:
        assert (answer.status_code, answer.content) == (200, first.content)
        assert answer.headers["Cache-Control"] == "public, max-age=3600"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Set-Cookie" not in answer.headers
        assert "Cookie" not in answer.headers.get("Vary", "")
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["ETag"] == first.headers["ETag"]
    assert (looked_at.status_code, looked_at.content) == (200, b"")
    assert outsider.post(path).status_code == 405


def test_no_rate_limit_stops_those_who_fetch_them(outsider: Client, settings: Any) -> None:
    settings.API_CALLS_PER_MINUTE = settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 1
    assert {outsider.get(path).status_code for path in (DISCOVERY, KEYS) * 5} == {200}


def test_behind_a_gateways_stage_the_issuer_has_its_path() -> None:
    answer = Browser().get(DISCOVERY, SCRIPT_NAME="/staging", HTTP_HOST="testserver")
    assert answer.json()["issuer"] == "http://testserver/staging"
    assert answer.json()["jwks_uri"] == f"http://testserver/staging{KEYS}"


@pytest.mark.parametrize("url", ["https://ci.example.com", "https://example.com/ci"])
def test_the_issuer_is_the_set_address_whatever_the_request_uses(settings: Any, url: str) -> None:
    settings.PUBLIC_URL = url
    for host, stage in (("testserver", ""), ("localhost", "/production")):
        answer = Browser().get(DISCOVERY, SCRIPT_NAME=stage, HTTP_HOST=host)
        assert (answer.json()["issuer"], answer.json()["jwks_uri"]) == (url, f"{url}{KEYS}")


def test_a_strangers_host_is_no_issuer(outsider: Client) -> None:
    assert outsider.get(DISCOVERY, headers={"Host": "evil.example.com"}).status_code == 400


def test_a_token_verifies_before_and_after_its_key_is_replaced(server: str, key_folder: Path) -> None:
    """A verifier fetches the keys a day before the new one signs, and never again."""
    old = signing_key(Purpose.IDENTITY).key_id
    new = signing_key_create(Purpose.IDENTITY).key_id

    def kids() -> set[str]:
        return {key["kid"] for key in requests.get(f"{server}{KEYS}", timeout=10).json()["keys"]}

    assert kids() == {old, new}
    for hours, signing, published in ((23, old, {old, new}), (24.5, new, {old, new}), (25.5, new, {new})):
        with clock.shifted(timedelta(hours=hours)):
            assert (signing_key(Purpose.IDENTITY).key_id, kids()) == (signing, published)


def test_all_keys_of_kms_are_published(outsider: Client, cloud_services: CloudServices, settings: Any) -> None:
    settings.SIGNING_KEY_IDS = [
        client("kms").create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"] for _ in range(2)
    ]
    assert len({key["kid"] for key in outsider.get(KEYS).json()["keys"]}) == 2


def test_without_kms_the_keys_are_unavailable_and_nothing_else(
    outsider: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Purpose) -> Any:
        raise Unavailable("KMS does not answer.")

    monkeypatch.setattr("apps.secrets.services.identity_tokens.signing_keys", fail)
    answer = outsider.get(KEYS)
    problem(answer, 503, "unavailable")
    assert "public" not in answer.headers.get("Cache-Control", "")
    assert outsider.get(DISCOVERY).status_code == 200
