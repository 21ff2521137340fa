"""Reading pipelines. All reads are consistent."""

from dataclasses import dataclass
from typing import Any

from apps.pipelines.definitions import PIPELINE_NAME
from apps.pipelines.models import SCOPE, Pipeline
from apps.pipelines.parsing import definition_parse
from controlplane.lib.cursors import cursor_decode, cursor_encode
from controlplane.lib.errors import NotFound

_LIST = "pipelines"


@dataclass(frozen=True)
class PipelinePage:
    """A page of pipelines by name; `total` counts those on all pages, `next_cursor` is None on the last one."""

    pipelines: list[Pipeline]
    total: int
    next_cursor: str | None


def pipeline_get(name: str) -> Pipeline:
    """The pipeline of that name. Raises NotFound with the code ``pipeline_not_found``."""
    # DynamoDB does not accept every text as a key, so an invalid name is not looked up.
    pipeline = Pipeline.find(SCOPE, name) if PIPELINE_NAME.fullmatch(name) else None
    if pipeline is None:
        raise NotFound(f"There is no pipeline of the name “{name[:63]}”.", code="pipeline_not_found")
    return pipeline


def pipeline_definition(pipeline: Pipeline) -> dict[str, Any] | None:
    """The definition that is kept on the server, parsed, as `Definition.as_dict` gives it; None if there is none."""
    return definition_parse(pipeline.definition).as_dict() if pipeline.definition else None


def pipeline_list(*, limit: int = 50, cursor: str | None = None) -> PipelinePage:
    """Up to `limit` pipelines in the order of their names, from where the page that gave `cursor` ended.

    Raises InvalidInput for a cursor that no page gave.
    """
    after = None
    if cursor is not None:
        after = {"scope": {"S": SCOPE}, "name": {"S": cursor_decode(_LIST, cursor)["name"]}}
    # One more than asked for tells whether there is another page.
    found = list(Pipeline.query(SCOPE, consistent_read=True, limit=limit + 1, last_evaluated_key=after))
    page = found[:limit]
    return PipelinePage(
        pipelines=page,
        total=Pipeline.count(SCOPE, consistent_read=True),
        next_cursor=cursor_encode(_LIST, {"name": page[-1].name}) if len(found) > limit else None,
    )
