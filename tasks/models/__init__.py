"""The models behind the roles: targets and their layers, encoders, captioners, summarisers."""
