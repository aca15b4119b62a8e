"""The two boundaries that every backbone has, by name; read without torch."""

INPUT = "input"
"""Before the whole backbone: nothing is frozen."""

FEATURES = "features"
"""Behind the whole backbone: the head alone is trained."""
