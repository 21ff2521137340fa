"""What agents ask over HTTP, every request signed. Plain Django views: they are called all the time."""
