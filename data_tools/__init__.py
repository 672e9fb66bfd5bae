"""Command-line tools that turn raw videos and split lists into the input of `fedvssl`."""
