"""The views of the pages. They read selectors, call services, and render."""
