"""The measurements of docs/promises.md. Nothing here is shipped."""
