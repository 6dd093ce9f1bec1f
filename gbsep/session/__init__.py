"""Projects for DAWs, from finished renders."""
