"""The methods that make up a recipe: one module per family."""
