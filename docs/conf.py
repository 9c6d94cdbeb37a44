"""The documentation site: Sphinx over the Markdown of this folder (``make docs``).

Nothing in the built pages comes from another host: the theme's fonts are the reader's own, and
the search runs in the browser.
"""

from oz_agent_worker import __version__

project = "oz-agent-worker"
release = __version__
version = __version__
language = "en"
#: Quotes and dashes stay as they are written: many are part of a command.
smartquotes = False

extensions = ["myst_parser"]
#: Headings down to this level can be linked to, by the anchors that GitHub gives them.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"oz-agent-worker {__version__}"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_theme_options = {"navigation_with_keys": True}
pygments_style = "default"
pygments_dark_style = "monokai"
