"""The tables in the template, and the auto-scaling of those that are provisioned."""

import re
from collections.abc import Iterator

from troposphere import AWSObject, GetAtt, Ref, Sub, applicationautoscaling, dynamodb

from controlplane.infrastructure.key import KEY_ALIAS
from controlplane.infrastructure.schema import IndexSchema, TableSchema
from controlplane.infrastructure.stages import Capacity, Stage

_KINDS = ("Read", "Write")


def table_resources(table: TableSchema, stage: Stage, key_arn: GetAtt) -> Iterator[AWSObject]:
    """The table and, if its capacity is provisioned, the auto-scaling of the table and its indexes."""
    capacity = stage.capacity(table.name)
    yield dynamodb.Table(
        table.logical_id,
        TableName=table.full_name(stage.name),
        AttributeDefinitions=[
            dynamodb.AttributeDefinition(AttributeName=name, AttributeType=kind)
            for name, kind in sorted(table.types.items())
        ],
        KeySchema=_key_schema(table.key),
        PointInTimeRecoverySpecification=dynamodb.PointInTimeRecoverySpecification(PointInTimeRecoveryEnabled=True),
        SSESpecification=dynamodb.SSESpecification(SSEEnabled=True, SSEType="KMS", KMSMasterKeyId=key_arn),
        DeletionProtectionEnabled=True,
        DependsOn=KEY_ALIAS,
        DeletionPolicy="Retain",
        UpdateReplacePolicy="Retain",
        **_capacity(capacity),
        **_indexes(table, capacity),
        **_ttl(table),
    )
    if capacity is not None:
        for name in (None, *(index.name for index in table.indexes)):
            for kind in _KINDS:
                yield from _scaling(table, name, kind, capacity)


def _key_schema(key: tuple[str, ...]) -> list[dynamodb.KeySchema]:
    return [
        dynamodb.KeySchema(AttributeName=name, KeyType=kind) for name, kind in zip(key, ("HASH", "RANGE"), strict=False)
    ]


def _capacity(capacity: Capacity | None) -> dict[str, object]:
    if capacity is None:
        return {"BillingMode": "PAY_PER_REQUEST"}
    return {"BillingMode": "PROVISIONED", **_throughput(capacity)}


def _throughput(capacity: Capacity | None) -> dict[str, object]:
    if capacity is None:
        return {}
    return {
        "ProvisionedThroughput": dynamodb.ProvisionedThroughput(
            ReadCapacityUnits=capacity.units, WriteCapacityUnits=capacity.units
        )
    }


def _indexes(table: TableSchema, capacity: Capacity | None) -> dict[str, object]:
    if not table.indexes:
        return {}
    return {"GlobalSecondaryIndexes": [_index(index, capacity) for index in table.indexes]}


def _index(index: IndexSchema, capacity: Capacity | None) -> dynamodb.GlobalSecondaryIndex:
    included = {"NonKeyAttributes": list(index.attributes)} if index.attributes else {}
    return dynamodb.GlobalSecondaryIndex(
        IndexName=index.name,
        KeySchema=_key_schema(index.key),
        Projection=dynamodb.Projection(ProjectionType=index.projection, **included),
        **_throughput(capacity),
    )


def _ttl(table: TableSchema) -> dict[str, object]:
    if table.ttl is None:
        return {}
    return {"TimeToLiveSpecification": dynamodb.TimeToLiveSpecification(AttributeName=table.ttl, Enabled=True)}


def _scaling(table: TableSchema, index: str | None, kind: str, capacity: Capacity) -> Iterator[AWSObject]:
    """The auto-scaling of one dimension (reading or writing) of a table, or of one of its indexes."""
    part = "".join(word.title() for word in re.split("[_-]", index or ""))
    target = applicationautoscaling.ScalableTarget(
        f"{table.logical_id}{part}{kind}Target",
        ServiceNamespace="dynamodb",
        # A reference, so that the table is created first.
        ResourceId=Sub(f"table/${{{table.logical_id}}}" + (f"/index/{index}" if index else "")),
        ScalableDimension=f"dynamodb:{'index' if index else 'table'}:{kind}CapacityUnits",
        MinCapacity=capacity.units,
        MaxCapacity=capacity.most,
    )
    yield target
    yield applicationautoscaling.ScalingPolicy(
        f"{table.logical_id}{part}{kind}Scaling",
        PolicyName=f"{kind.lower()}-utilisation",
        PolicyType="TargetTrackingScaling",
        ScalingTargetId=Ref(target),
        TargetTrackingScalingPolicyConfiguration=applicationautoscaling.TargetTrackingScalingPolicyConfiguration(
            PredefinedMetricSpecification=applicationautoscaling.PredefinedMetricSpecification(
                PredefinedMetricType=f"DynamoDB{kind}CapacityUtilization"
            ),
            TargetValue=capacity.target_percent,
        ),
    )
