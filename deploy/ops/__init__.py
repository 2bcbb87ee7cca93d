"""The operator's command line, `rappen`."""
