"""A published version in the formats of other tools: one file a format, none of which knows folders or writing."""
