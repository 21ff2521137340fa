"""The language of pipeline files, for the control plane and for the agent: one reader, one set of messages.

`definition` has what a file says, `reader` reads a file by one table, `expressions` has the language of `if` and of
``${{ … }}``, and `graph` unfolds a file into the jobs of a run. It needs PyYAML beside the standard library, and
`agent.pyz` contains that. A running agent imports none of this until it is asked to read a file.
"""
