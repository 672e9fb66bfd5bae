"""Inputs of a client for one message, and the state that it keeps."""
