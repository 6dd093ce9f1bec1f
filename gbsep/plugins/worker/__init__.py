"""What the process of a plug-in is made of, and what both of its sides share.

process.py is its inside; loader.py says why something does not load, parameters.py and state.py see to exactness,
channel.py is the way in and out. The outside is plugins.host. Kept apart and small, for each plug-in's process imports
it while its caller waits.
"""
