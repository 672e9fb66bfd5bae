"""What other programs read: ONNX, torchvision's names, and the card that says what a backbone is."""
