"""``hci logs``."""

from __future__ import annotations

import click

from hci import endpoints, output
from hci.errors import Ended, Exit, UsageProblem
from hci.follow import FOLLOW_PATIENCE, JobWatch, LogReader, Pace, TimeFilter, job_end, job_exit_code, log_parts
from hci.session import HciCommand, Session, pass_session
from hci.text import LogText
from hci.times import since as since_time


@click.command(cls=HciCommand)
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Stay until the job has ended, and end with its exit code.")
@click.option("--since", metavar="TIME", help="Only lines from then on: 10m, 2h, or a time in RFC 3339.")
@click.option("--tail", type=click.IntRange(1, 100_000), metavar="N", help="Only the last N lines.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Only this attempt. Default: all.")
@click.option("--step", type=click.IntRange(1), metavar="N", help="Only this step, counted from 1.")
@click.option("-t", "--timestamps", is_flag=True, help="Put before each line when it was printed.")
@pass_session
def logs(
    session: Session,
    job: str,
    follow: bool,
    since: str | None,
    tail: int | None,
    attempt: int | None,
    step: int | None,
    timestamps: bool,
) -> None:
    """Print the log of a JOB.

    On a terminal its colours are kept. Other control sequences of the job are left out.
    """
    if session.as_json and follow:
        raise UsageProblem("--json prints one document, so it cannot follow.")
    client = session.client
    start = since_time(since) if since else None
    reader = LogReader(client, job, attempt, step, tail, timestamps=timestamps or start is not None)
    if follow:
        client.follow(FOLLOW_PATIENCE)
    shown = LogText(colour=session.colour and not session.as_json)
    times = TimeFilter(start, timestamps) if reader.timestamps else None
    watch = JobWatch(client, job, session.notice)
    pieces: list[str] = []
    say = pieces.append if session.as_json else output.write
    try:
        for part in log_parts(reader, follow=follow, pace=Pace(), on_idle=watch.idle):
            say(shown.feed(times.feed(part) if times else part))
        say(shown.feed(times.feed(b"", last=True) if times else b"", last=True))
    except KeyboardInterrupt:
        output.write(shown.reset())
        if follow:
            output.notice("")
            output.notice(f"The job goes on. To cancel it: hci cancel {job}")
        raise Ended(Exit.INTERRUPTED) from None
    if session.as_json:
        output.document(
            {"job_id": job, "log": "".join(pieces), "next_offset": reader.offset, "complete": reader.complete}
        )
    elif follow:
        found = client.json(endpoints.JOB, job_id=job)
        if found.get("status") != "completed":
            session.notice(job_end(found))
        raise Ended(job_exit_code(found))
