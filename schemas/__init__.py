"""Shared definitions: recipes, tables, receipts and errors. The package imports no other part of the project."""
