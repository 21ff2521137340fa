"""The classes of the language in which pipeline files are written, for the other apps."""

from agent.pipeline.definition import Job, Node, Parameter, Pipeline, Step

__all__ = ["Job", "Node", "Parameter", "Pipeline", "Step"]
