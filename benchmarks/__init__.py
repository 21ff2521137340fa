"""Measurements that docs/promises.md tells of. Nothing here is shipped."""
