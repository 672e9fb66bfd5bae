"""UCF-101: where it is, and the defaults of its folders."""
