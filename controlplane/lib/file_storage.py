"""Files in a directory, for the storages that Django's settings name: on one machine what `ObjectStorage` is on AWS."""

from django.core.files.storage import FileSystemStorage


class FileStorage(FileSystemStorage):
    """Django's own, and a way to read a piece of a file that both storages have."""

    def read_range(self, name: str, offset: int, limit: int) -> tuple[bytes, int]:
        """At most `limit` bytes from `offset`, and the size of the whole. Raises FileNotFoundError."""
        with self.open(name) as file:
            size = int(file.size)
            # A place far behind the end is none that a file system would take.
            file.seek(min(offset, size))
            return file.read(limit), size
