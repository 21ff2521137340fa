"""The program that runs on the user's machines: it takes jobs from the control plane, runs them and reports.

Standard library only, Python 3.9 or newer, Linux and macOS; Windows is out of scope. It is served as one file:
`python3 agent.pyz --url … --token …` is all that a machine needs. `cli` reads the arguments, `worker` holds the jobs in
hand, `heartbeat` speaks for them, `job` runs one attempt, `guard` is the small process that stands over each command.
"""

VERSION = "0.1.0"
