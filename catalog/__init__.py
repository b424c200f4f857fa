"""The memory: recipes, models, published versions and how to read them. Imports schemas only, never torch or Prefect."""
