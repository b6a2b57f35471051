"""A sweep file: what it says, and the cells that come of it. Knows neither Ray nor MLflow."""
