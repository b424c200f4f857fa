"""The catalog: recipes, models, published versions and their reader. It imports schemas only, not torch or Prefect."""
