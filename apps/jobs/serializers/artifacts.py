"""Artifacts and caches as JSON for people's programs."""

from typing import Any

from django.urls import get_script_prefix
from rest_framework import serializers

from controlplane.http.drf_fields import TextField, WholeNumberField
from controlplane.lib import clock
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH


class ArtifactListQuerySerializer(serializers.Serializer[Any]):
    """Which part of a list."""

    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=50)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class ArtifactSerializer(serializers.Serializer[Any]):
    """An artifact: a tar archive that an attempt of a job has stored."""

    artifact_id = serializers.CharField()
    run_id = serializers.CharField(source="owner")
    job_id = serializers.CharField()
    node = serializers.CharField(help_text="The name of the job in its run.")
    attempt = serializers.IntegerField()
    name = serializers.CharField()
    size = serializers.IntegerField(help_text="Of the archive, in bytes.")
    sha256 = serializers.CharField(help_text="Of the archive, in hexadecimal digits.")
    media = serializers.CharField(help_text="application/x-tar+gzip or application/x-tar+zstd")
    files = serializers.IntegerField(help_text="How many files the archive has.")
    stored_at = serializers.CharField()
    expires_at = serializers.SerializerMethodField()
    download_url = serializers.SerializerMethodField()
    provenance_url = serializers.SerializerMethodField()

    def get_expires_at(self, artifact: Any) -> str:
        """When it is deleted, in RFC 3339."""
        return clock.timestamp(artifact.expires_at)

    def get_download_url(self, artifact: Any) -> str:
        """Where to download it, with the same credentials. It redirects to a URL that needs none, for five minutes."""
        path = f"{get_script_prefix()}artifacts/{artifact.artifact_id}/download"
        url: str = self.context["request"].build_absolute_uri(path)
        return url

    def get_provenance_url(self, artifact: Any) -> str:
        """Where its signed provenance is, once its job has ended."""
        path = f"{get_script_prefix()}artifacts/{artifact.artifact_id}/provenance"
        url: str = self.context["request"].build_absolute_uri(path)
        return url


class SignatureSerializer(serializers.Serializer[Any]):
    keyid = serializers.CharField(help_text="The id of the key. `manage.py audit_public_key` prints the keys.")
    sig = serializers.CharField(help_text="The signature in base64.")


class ProvenanceSerializer(serializers.Serializer[Any]):
    """A DSSE envelope."""

    payloadType = serializers.CharField(help_text="application/vnd.in-toto+json")  # noqa: N815 — as DSSE has it
    payload = serializers.CharField(help_text="The in-toto statement, in base64.")
    signatures = SignatureSerializer(many=True)


class ArtifactPageSerializer(serializers.Serializer[Any]):
    """A page of artifacts, by job and attempt. It may be shorter than `limit` and still have a next one."""

    artifacts = ArtifactSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ArtifactsSerializer(serializers.Serializer[Any]):
    """All artifacts of a job."""

    artifacts = ArtifactSerializer(many=True)


class ArtifactFileSerializer(serializers.Serializer[Any]):
    """A file of an artifact."""

    path = serializers.CharField(help_text="In the workspace.")
    size = serializers.IntegerField(help_text="In bytes.")
    mode = serializers.CharField(help_text="The permission bits in octal digits.")


class ArtifactFilesSerializer(serializers.Serializer[Any]):
    """The files of an artifact."""

    files = ArtifactFileSerializer(many=True, help_text="At most 10,000.")
    total = serializers.IntegerField(help_text="How many files the artifact has.")


class CacheSerializer(serializers.Serializer[Any]):
    """A cache of a pipeline."""

    key = serializers.CharField()
    scope = serializers.SerializerMethodField()
    job_id = serializers.CharField(help_text="The job that has stored it.")
    size = serializers.IntegerField(help_text="In bytes.")
    stored_at = serializers.CharField()
    used_at = serializers.CharField(help_text="When it was last restored, to the hour; or when it was stored.")
    expires_at = serializers.SerializerMethodField()

    def get_scope(self, cache: Any) -> str:
        """Which runs write it: those of `branch:<branch>`, or those for the pull request `pull:<ref>`."""
        return str(cache.place).removesuffix(str(cache.key)).removesuffix(":")

    def get_expires_at(self, cache: Any) -> str:
        """When it is deleted, in RFC 3339."""
        return clock.timestamp(cache.expires_at)


class CachesSerializer(serializers.Serializer[Any]):
    """The caches of a pipeline, by scope and key."""

    caches = CacheSerializer(many=True)
    total_size = serializers.IntegerField(help_text="Of all, in bytes.")
    quota = serializers.IntegerField(help_text="In bytes. Above it, caches that were not used for longest are deleted.")


class CachesDeletedSerializer(serializers.Serializer[Any]):
    """How many caches were deleted."""

    deleted = serializers.IntegerField()
