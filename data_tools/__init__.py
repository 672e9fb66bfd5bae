"""Command-line tools that turn raw videos and split lists into what `fedvssl` reads."""
