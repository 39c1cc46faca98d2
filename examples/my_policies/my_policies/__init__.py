"""Plug-ins for autoprune_lab: nothing is listed here, each file is found."""
