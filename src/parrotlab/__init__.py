"""parrotlab: the open laboratory for one question, what do experts buy?"""

__version__ = "0.1.0"
