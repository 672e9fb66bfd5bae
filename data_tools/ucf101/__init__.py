"""UCF-101: the defaults of its folders."""
