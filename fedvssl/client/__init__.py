"""What a client does with one message, and what stays with it."""
