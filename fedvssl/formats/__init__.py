"""Formats for other programs: ONNX, torchvision's names, and the model card of a backbone."""
