"""A storage for Django's setting STORAGES that keeps files in a directory. On AWS, `ObjectStorage` replaces it."""

from django.core.files.storage import FileSystemStorage


class FileStorage(FileSystemStorage):
    """Django's file storage with `read_range`, which `ObjectStorage` has too."""

    def read_range(self, name: str, offset: int, limit: int) -> tuple[bytes, int]:
        """At most `limit` bytes from `offset`, and the size of the whole file. Raises FileNotFoundError."""
        with self.open(name) as file:
            size = int(file.size)
            # A file system rejects an offset that is too large.
            file.seek(min(offset, size))
            return file.read(limit), size
