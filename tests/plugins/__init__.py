"""Plugins of Kinto and of Pyramid that the tests include beside this one."""
