"""The memory: recipes, models, published versions and how to read them. Imports schemas only; no torch, no Prefect."""
