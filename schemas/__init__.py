"""The words that every room speaks: recipes, tables, receipts, errors. Imports nothing of the project."""
