"""Numbers that papers and their repositories published, and what CLEAR finds for them."""
