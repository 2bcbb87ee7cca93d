"""Usage becomes charges."""
