"""The live view: what is looked at, and how it is shown."""
