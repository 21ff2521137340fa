"""The classes of the language in which pipeline files are written, and what they need of each other, for other apps."""

from agent.pipeline.definition import Job, Node, Parameter, Pipeline, Step, names_before

__all__ = ["Job", "Node", "Parameter", "Pipeline", "Step", "names_before"]
