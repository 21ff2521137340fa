"""The command line of the control plane. It knows its HTTP API, and nothing else of it."""

__version__ = "0.1.0"
