"""The labelling methods, one folder or file each."""
