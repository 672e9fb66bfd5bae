"""Split learning: clients hold the first stages of a network, the server the rest."""
