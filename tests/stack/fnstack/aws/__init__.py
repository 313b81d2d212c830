"""AWS as far as fastnode sees it: moto for the wire, an engine of our own behind it."""
