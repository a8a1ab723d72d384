"""How fast the plugin is, beside the released one and beside what the machine can do at best."""
