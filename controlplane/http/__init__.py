"""Requests, bodies, problem details, the API document and the content policy; no app's business."""
