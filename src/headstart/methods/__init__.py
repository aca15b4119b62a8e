"""The methods that a recipe is made of, one file a family."""
