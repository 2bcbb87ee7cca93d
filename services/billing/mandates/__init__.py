"""What a mandate's charges depend on: settings, terms, members, the billing model."""
