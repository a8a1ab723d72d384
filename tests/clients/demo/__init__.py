"""The page in the folder ``demo``, in Chromium, as ``make serve`` serves it."""
