"""What happens to customers while usage flows: they subscribe, run out of credit, pay, are declined, and recover."""
