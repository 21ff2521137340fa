"""``manage.py audit_verify``: check the audit trail, or an export of it, against its seals."""

import sys
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.audit.management.times import moment
from apps.audit.seals import SealError, keys_parse
from apps.audit.seals.checking import MOST_FINDINGS, Verification
from apps.audit.seals.exported import export_verify
from apps.audit.selectors import EARLIEST
from apps.audit.selectors.seals import trusted_keys
from apps.audit.selectors.verification import trail_verify
from apps.audit.services.verifications import verification_record
from controlplane.lib.errors import ApplicationError

# The statuses of the process, beside 0.
_TAMPERED, _FAILED, _NOT_SEALED = 1, 2, 3
_PROGRESS_SECONDS = 2


class Command(BaseCommand):
    help = (
        "Check the audit trail against its seals: each signature, the chain and the tree, and each event against its "
        "leaf. Names the events that were edited, deleted, inserted, reordered or cut off. With --export it checks a "
        "file, without the database. Ends with 0 if all is right, 1 if something was changed, 2 if it could not check, "
        "3 if the file has events without a seal."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="first", type=moment, metavar="TIME", help="a day or a time")
        parser.add_argument(
            "--to", dest="last", type=moment, metavar="TIME", help="check up to here; an export must reach this time"
        )
        parser.add_argument("--export", type=Path, metavar="FILE", help="check this file: an export with its seals")
        parser.add_argument(
            "--public-key", type=Path, metavar="FILE", help="the keys to trust, as audit_public_key printed them (PEM)"
        )

    def handle(
        self,
        *args: Any,
        first: str | None,
        last: str | None,
        export: Path | None,
        public_key: Path | None,
        **options: Any,
    ) -> None:
        if export is not None and (first is not None or public_key is None):
            raise CommandError("--export needs --public-key, and has no --from.", returncode=_FAILED)
        self._began, self._shown = time.monotonic(), time.monotonic()
        try:
            keys = keys_parse(public_key.read_text()) if public_key else None
            if export is not None:
                result = export_verify(export, keys=keys or {}, last=last, progress=self._progress)
            else:
                earliest = EARLIEST if first is None else None
                result = trail_verify(
                    trusted=keys or trusted_keys(), first=first, last=last, earliest=earliest, progress=self._progress
                )
                verification_record(result, is_whole=first is None and last is None)
        except (ApplicationError, SealError, OSError, ValueError) as error:
            raise CommandError(f"Could not check: {error}", returncode=_FAILED) from error
        self._report(result)
        if result.findings:
            sys.exit(_TAMPERED)
        if export is not None and result.waiting:
            sys.exit(_NOT_SEALED)

    def _progress(self, records: int) -> None:
        now = time.monotonic()
        if now - self._shown >= _PROGRESS_SECONDS:
            self._shown = now
            self.stderr.write(f"{records:,} events so far, {self._speed(records)}")

    def _speed(self, records: int) -> str:
        return f"{records / max(0.001, time.monotonic() - self._began):,.0f} a second"

    def _report(self, result: Verification) -> None:
        for finding in result.findings:
            where = f" (seal {finding.seal})" if finding.seal else ""
            self.stdout.write(f"{finding.kind}: {finding.message}{where}")
        if len(result.findings) >= MOST_FINDINGS:
            self.stdout.write(f"There may be more: only {MOST_FINDINGS} are listed.")
        self.stdout.write(f"{result.records:,} events were checked, {self._speed(result.records)}.")
        if result.head is not None:
            statement = result.head.statement
            self.stdout.write(f"Checked up to {statement.through}, seal {statement.number}, digest {statement.digest}.")
        if result.expired:
            self.stdout.write(f"{result.expired:,} more have expired, as AUDIT_RETENTION said when they were recorded.")
        if result.waiting:
            self.stdout.write(f"{result.waiting:,} events have no seal yet, or none in the file.")
        self.stdout.write("The trail was changed." if result.findings else "All is as it was sealed.")
