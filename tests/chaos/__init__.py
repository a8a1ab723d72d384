"""``make chaos``: two servers, eight clients, and everything around them failing meanwhile.

It is a program, not a test: how long it takes is said by who starts it. Only what it concludes
from is tested, in ``test_history.py``.
"""
