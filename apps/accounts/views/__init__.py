"""Pages to come in, to leave, and to see where one is signed in."""
