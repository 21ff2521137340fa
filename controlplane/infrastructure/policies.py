"""Statements that the policies of several resources share."""

from typing import Any


def tls_only(action: str, resource: Any) -> dict[str, Any]:
    """Refuse `action` on `resource` (an ARN, or a list of them) without TLS."""
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": resource,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
