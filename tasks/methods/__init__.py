"""The mathematics: one method, one file. Imports schemas only; knows neither Prefect nor files nor network."""
