"""Reading pipelines. All reads are consistent."""

from dataclasses import dataclass
from typing import Any

from apps.pipelines.definitions import PIPELINE_NAME
from apps.pipelines.models import SCOPE, Pipeline
from apps.pipelines.parsing import definition_parse
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.nosql.listing import Listing, place_decode

__all__ = ["Pipeline", "PipelinePage", "pipeline_definition", "pipeline_get", "pipeline_list"]

# The name of the list for its cursors.
_LIST = "pipelines"

_BY_NAME = Listing(Pipeline, None)


@dataclass(frozen=True)
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


def pipeline_definition(pipeline: Pipeline) -> dict[str, Any] | None:
    """The definition that is kept on the server, parsed, as `Definition.as_dict` gives it; None if there is none."""
    return definition_parse(pipeline.definition).as_dict() if pipeline.definition else None


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
