"""How the page looks: a quiet theme with fonts that the server brings, and what Gradio's themes cannot say."""

import gradio as gr
from gradio.themes.utils.fonts import LocalFont

# The weights of which Gradio brings all letters; other faces have a few.
WEIGHTS = (400, 700)
THEME = gr.themes.Default(
    primary_hue=gr.themes.colors.slate,
    secondary_hue=gr.themes.colors.slate,
    neutral_hue=gr.themes.colors.slate,
    spacing_size=gr.themes.sizes.spacing_sm,
    radius_size=gr.themes.sizes.radius_md,
    font=(LocalFont("IBM Plex Sans", WEIGHTS), "system-ui", "sans-serif"),
    font_mono=(LocalFont("IBM Plex Mono", WEIGHTS), "ui-monospace", "monospace"),
)

CSS = """
.gradio-container { width: 100% !important; max-width: 1280px !important; margin: 0 auto !important; }
#served h1 { font-size: 20px; font-weight: 700; margin: 0; }
#served p, #note p { margin: 0; color: var(--body-text-color-subdued); font-size: 13px; }
#served code { font-size: 12px; overflow-wrap: anywhere; }
#note { min-height: 20px; }
#conversation .top-panel { display: none; }
#conversation .user-row + .message-buttons-right { display: none; }
#conversation blockquote { border-left: 3px solid #b45309; padding-left: 12px; margin: 0; }
"""
