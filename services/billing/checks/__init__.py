"""Whether an AI call may go ahead."""
