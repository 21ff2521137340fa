"""From the text of another product's file to the text of a pipeline file, with what could not be taken over.

docs/importing.md describes what is converted, and why a part that is not leaves a step that fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from apps.pipelines.importing import PRODUCT_NAMES
from apps.pipelines.importing.buildkite import buildkite_convert
from apps.pipelines.importing.drafts import MAX_JOBS, PipelineDraft, pipeline_write
from apps.pipelines.importing.foreign import Value, documents_read
from apps.pipelines.importing.github import github_convert
from apps.pipelines.importing.gitlab import gitlab_convert
from apps.pipelines.importing.gitlab_includes import Read
from apps.pipelines.importing.remarks import ImportRefused, Remark, Remarks
from apps.pipelines.importing.validity import Problem, draft_repair
from apps.pipelines.parsing import pipeline_parse
from controlplane.lib.errors import InvalidInput

# A file has 512 KB, of which each need takes some.
_MAX_NEEDS = 15_000
# Remarks about a job are comments of that job.
_JOB = re.compile(r"jobs\.|steps\[")


@dataclass(frozen=True)
class Conversion:
    """A valid pipeline file. `whole` of its `jobs` have no step that stops until a person has acted."""

    text: str
    remarks: list[Remark]
    jobs: int
    whole: int


def pipeline_convert(product: str, text: str, read: Read = lambda _: None) -> Conversion:
    """Convert a file of one of PRODUCTS. Raises ImportRefused with the reason as a sentence.

    `read` gives other files of the repository by their paths, for files of GitLab that include them.
    """
    name = PRODUCT_NAMES[product]
    remarks = Remarks()
    draft = _draft(product, documents_read(text), remarks, read)
    if not draft.jobs:
        raise ImportRefused(f"The file has no job of {name} that can be converted.")
    if len(draft.jobs) > MAX_JOBS:
        raise ImportRefused(f"The file has {len(draft.jobs):,} jobs; a pipeline has at most {MAX_JOBS:,}.")
    needs = sum(len(job.needs) for job in draft.jobs)
    if needs > _MAX_NEEDS:
        raise ImportRefused(
            f"The order of its jobs takes {needs:,} needs, which no pipeline file has room for. Split it, or give its "
            "jobs needs of their own."
        )

    def write() -> str:
        notes = [str(remark) for remark in remarks.all() if not _JOB.match(remark.subject)]
        return pipeline_write(draft, [f"Imported from {name}. Lines are those of the imported file.", *notes])

    written = draft_repair(draft, remarks, write, _problems)
    return Conversion(written, remarks.all(), len(draft.jobs), sum(job.is_whole for job in draft.jobs))


def _draft(product: str, documents: list[Value], remarks: Remarks, read: Read) -> PipelineDraft:
    if product == "gitlab":
        return gitlab_convert(documents, remarks, read)
    return github_convert(documents, remarks) if product == "github" else buildkite_convert(documents, remarks)


def _problems(text: str) -> list[Problem]:
    try:
        pipeline_parse(text)
    except InvalidInput as error:
        return [dict(problem) for problem in error.errors]
    return []
