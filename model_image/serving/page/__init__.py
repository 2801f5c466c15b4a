"""The page for people, at /ui: Gradio on the same engine, through the same admission as every other interface.

`front` stands before Gradio and lets through what the page needs; `conversation` and `talk` are the page without
Gradio; only `layout` and `style` import it, which takes seconds, so nothing else may import those two at its top.
"""
