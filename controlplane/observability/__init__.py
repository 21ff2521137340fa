"""What operators see of the control plane: log lines, metrics for CloudWatch, traces for X-Ray.

Other code records its work with `controlplane.lib.work` and Python's logging, and does not import this package.
"""
