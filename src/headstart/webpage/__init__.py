"""The page on which a classifier can be tried: by the service, or alone in a browser."""
