"""Finding the best use of a time budget."""
