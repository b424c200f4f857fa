"""Convert a published version to formats of other tools: one module per format, without writing of files."""
