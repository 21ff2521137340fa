"""At which addresses the static files of pages are. Requests without a page do not load this."""

from django.contrib.staticfiles.storage import StaticFilesStorage
from django.urls import get_script_prefix


class StageStaticFilesStorage(StaticFilesStorage):
    """Static files, each at its address below the stage of the request.

    A gateway's own address begins with the stage, and a custom domain does not. Django would keep the address that
    `STATIC_URL` has in the first request.
    """

    def url(self, name: str | None) -> str:
        """The path of the file for browsers."""
        return f"{get_script_prefix().rstrip('/')}{super().url(name)}"
