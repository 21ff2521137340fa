"""What those who run the control plane see of it: log lines, metrics for CloudWatch, traces for X-Ray.

The product's code notes what it does by `controlplane.lib.work` and by Python's own logging, and knows nothing of this.
"""
