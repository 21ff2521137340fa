"""The stack's outputs with the agreed names: API endpoint, function and tables.

CloudFormation allows only letters and digits in a name, so `api_endpoint` is ApiEndpoint.
"""

from collections.abc import Iterable

from troposphere import Output, Ref, Sub, Template

from controlplane.infrastructure.alarms import API_PARAMETER, HAS_API
from controlplane.infrastructure.names import function_name
from controlplane.infrastructure.schema import TableSchema
from controlplane.infrastructure.stages import Stage


def outputs_add(template: Template, stage: Stage, tables: Iterable[TableSchema]) -> None:
    """Add ApiEndpoint (once the API exists), FunctionName, and each table's name, such as SessionsTableName."""
    endpoint = f"https://${{{API_PARAMETER}}}.execute-api.${{AWS::Region}}.${{AWS::URLSuffix}}/{stage.name}"
    template.add_output(
        Output("ApiEndpoint", Description="The API's own address", Value=Sub(endpoint), Condition=HAS_API)
    )
    template.add_output(
        Output("FunctionName", Description="The function, which Zappa makes", Value=function_name(stage.name))
    )
    for table in tables:
        template.add_output(
            Output(f"{table.logical_id}Name", Description=f"The table {table.name}", Value=Ref(table.logical_id))
        )
