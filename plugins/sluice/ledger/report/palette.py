"""The page's colours by name: figures are drawn in the light ones, the page gives each name its colour by scheme."""

LIGHT = {
    "ink": "#1f2328",
    "muted": "#67707b",
    "line": "#d5dae0",
    "paper": "#ffffff",
    "panel": "#f6f8fa",
    "canary": "#c2570c",
    "stable": "#1f6fb2",
    "bad": "#b42318",
    "good": "#1a7f4b",
}
DARK = {
    "ink": "#e6e9ed",
    "muted": "#99a3af",
    "line": "#363d47",
    "paper": "#12161b",
    "panel": "#1a2027",
    "canary": "#f08a3c",
    "stable": "#62aef0",
    "bad": "#ff7b6e",
    "good": "#4cc38a",
}
