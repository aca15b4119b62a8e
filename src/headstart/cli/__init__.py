"""The command line."""

import os

# No command has a use for plugins of pydantic, and looking for them opens every installed package.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
