"""A stateful fake of Stripe for development and tests: the official SDK runs against it unchanged."""
