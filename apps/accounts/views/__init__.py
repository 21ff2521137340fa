"""Pages to sign in and out, and to see one's devices and API tokens."""
