"""External plug-ins, each in a process of its own."""
