"""Reading which checks a commit shows, as they were sent last. All reads are consistent."""

from apps.sources.models import SentCheck

__all__ = ["SentCheck", "checks_sent"]


def checks_place(connection_id: str, repository: str, commit: str) -> str:
    """The partition of the checks of a commit."""
    return f"{connection_id}#{repository}#{commit}"


def checks_sent(connection_id: str, repository: str, commit: str) -> dict[str, SentCheck]:
    """All checks of the commit that were sent, by our ids of them. One query."""
    found = SentCheck.query(checks_place(connection_id, repository, commit), consistent_read=True)
    return {str(sent.external_id): sent for sent in found}
