"""Training of one recipe: experiment, transfer model, loop and budget."""
