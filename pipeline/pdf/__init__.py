"""PDFs: what their bytes show, and their pages, which processes apart count, measure and render.

PDFium, the renderer, is neither thread-safe nor proof against hostile files. So it runs in child processes
(`child.py`), each with one document open, without keys in its environment, and bounded in memory and CPU time. What
crashes one fails one record.
"""
