"""Features of the frozen network: extraction, cache and linear probe."""
