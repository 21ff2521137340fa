"""Test results and coverage: reading the XML of test runners, keeping the result small, and comparing results of runs.

Nothing here reads or writes records. The modules that read XML are imported only when a report arrives, so that no
cold start waits for them.
"""
