"""Reading pipelines. All reads are consistent."""

from collections.abc import Iterable
from functools import lru_cache

from apps.pipelines.definitions import PIPELINE_NAME
from apps.pipelines.definitions import Pipeline as ParsedPipeline
from apps.pipelines.models import SCOPE, Pipeline, PipelineBinding, binding_scope
from apps.pipelines.parsing import pipeline_parse
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.lib.frozen import frozen
from controlplane.nosql.listing import Listing, place_decode

__all__ = [
    "Pipeline",
    "PipelinePage",
    "pipeline_get",
    "pipeline_list",
    "pipeline_parsed",
    "pipelines_bound",
    "pipelines_bound_to",
    "pipelines_by_repository",
    "pipelines_paused",
]

# The name of the list for its cursors.
_LIST = "pipelines"

_BY_NAME = Listing(Pipeline, None)


@frozen
class PipelinePage:
    """A page of pipelines by name; `total` counts those on all pages, `next_cursor` is None on the last one."""

    pipelines: list[Pipeline]
    total: int
    next_cursor: str | None


def pipeline_get(name: str) -> Pipeline:
    """The pipeline of that name. Raises NotFound with the code ``pipeline_not_found``."""
    # DynamoDB refuses some texts as keys, such as the empty one, and no pipeline can have such a name.
    pipeline = Pipeline.find(SCOPE, name) if PIPELINE_NAME.fullmatch(name) else None
    if pipeline is None:
        raise NotFound(f"There is no pipeline of the name “{name[:63]}”.", code=ErrorCode.PIPELINE_NOT_FOUND)
    return pipeline


def pipelines_paused(names: Iterable[str]) -> set[str]:
    """Those of these pipelines that are paused. One call for each."""
    found = (Pipeline.find(SCOPE, name) for name in {*names})
    return {str(pipeline.name) for pipeline in found if pipeline and pipeline.paused_at}


def pipelines_bound(source: str, repository: str) -> list[Pipeline]:
    """The pipelines that are bound to a repository of a connection, by name. One query, and a read for up to 100."""
    rows = PipelineBinding.query(binding_scope(source, repository), consistent_read=True)
    found = Pipeline.find_many((SCOPE, row.name) for row in rows)
    bound = (
        one for one in found if one.source == source and str(one.source_repository or "").lower() == repository.lower()
    )
    return sorted(bound, key=lambda one: str(one.name))


def pipelines_bound_to(source: str) -> list[str]:
    """The names of all pipelines that are bound to a connection. It reads all pipelines."""
    return [str(one.name) for one in Pipeline.query(SCOPE, consistent_read=True) if one.source == source]


def pipelines_by_repository(source: str) -> dict[str, list[str]]:
    """The names of the pipelines that are bound to a connection, by repository in small letters. Reads all of them."""
    found: dict[str, list[str]] = {}
    for pipeline in Pipeline.query(SCOPE, consistent_read=True):
        if pipeline.source == source:
            found.setdefault(str(pipeline.source_repository).lower(), []).append(str(pipeline.name))
    return found


def pipeline_parsed(pipeline: Pipeline) -> ParsedPipeline | None:
    """What the definition says that is kept on the server; None if there is none."""
    return _parsed(pipeline.definition) if pipeline.definition else None


# The jobs of a pipeline come one after another, and parsing YAML is a quarter of what a new job costs this process.
@lru_cache(maxsize=32)
def _parsed(text: str) -> ParsedPipeline:
    return pipeline_parse(text)


def pipeline_list(*, limit: int = 50, cursor: str | None = None) -> PipelinePage:
    """Up to `limit` pipelines in the order of their names, from where the page that gave `cursor` ended.

    Raises InvalidInput for a cursor that no page gave.
    """
    page = _BY_NAME.page([SCOPE], limit=limit, start=place_decode(_LIST, cursor))
    return PipelinePage(
        pipelines=page.records,
        total=Pipeline.count(SCOPE, consistent_read=True),
        next_cursor=page.next_cursor(_LIST),
    )
