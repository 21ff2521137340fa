"""The Django admin for records. Its pages are imported by the first request for one of them."""
