"""Concord as an installed package. Its code keeps the layout of the repository, in this folder."""
