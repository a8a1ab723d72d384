"""The page in the folder ``demo``, for its tests and for its picture."""
