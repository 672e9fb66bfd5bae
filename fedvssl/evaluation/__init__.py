"""How good a representation is, without training it further: one file and one YAML for each protocol."""
