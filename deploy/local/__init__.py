"""The whole platform on one machine from Python packages alone: servers, supervisor, and the state they keep."""
