"""Server-rendered pages. They read other apps' selectors, call their services, and own no records."""
