"""Signatures of webhooks, as Standard Webhooks describes them."""

import pytest

from controlplane.lib.webhook_signature import webhook_headers, webhook_key, webhook_secret_new

# The example of https://www.standardwebhooks.com's reference implementations.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_signature_is_that_of_the_reference_implementations() -> None:
    headers = webhook_headers(
        secrets=[SECRET],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", "whsec_c2hvcnQ=", SECRET.removeprefix("whsec_")])
def test_a_weak_or_malformed_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="must be whsec_"):
        webhook_key(secret)


def test_a_message_may_have_the_signatures_of_several_secrets() -> None:
    other = webhook_secret_new()
    assert other != webhook_secret_new()
    headers = webhook_headers(secrets=[SECRET, other], message_id="msg_1", timestamp=1, body=b"{}")
    alone = [
        webhook_headers(secrets=[secret], message_id="msg_1", timestamp=1, body=b"{}") for secret in (SECRET, other)
    ]
    assert headers["webhook-signature"] == " ".join(each["webhook-signature"] for each in alone)
