"""What may be read from outside: regular files, values in their range, and the machine."""
