"""What may be read from outside: regular files, and values in their range."""
