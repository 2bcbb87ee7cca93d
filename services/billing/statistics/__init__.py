"""What was used and what it cost, by period, and how long a balance lasts."""
