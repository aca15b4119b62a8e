"""Recipes: one method of each family, as data."""
