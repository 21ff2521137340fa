"""Server-rendered pages over the other apps' selectors and services; owns no records."""
