"""The program that runs on the user's machines: it takes jobs from the control plane, runs them and reports.

Standard library only, Python 3.9 or newer, Linux and macOS; Windows is out of scope. It is served as one file:
`python3 agent.pyz --url … --token …` is all that a machine needs. `cli` reads the arguments, `worker` keeps the running
attempts, `heartbeat` reports them, `job` runs one attempt, `delivery` sends its log and result, and `guard` is the
small process that supervises the commands of a job.
"""

VERSION = "0.1.0"
