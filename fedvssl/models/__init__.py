"""Networks: they know nothing of clips, tasks or federation."""
