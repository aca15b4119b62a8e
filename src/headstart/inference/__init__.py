"""The use of a trained classifier: predictions and the sealed test."""
