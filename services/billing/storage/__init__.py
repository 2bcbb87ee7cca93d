"""Storage in use, as feature instances report it, and what is charged for it at the end of each subscription period."""
