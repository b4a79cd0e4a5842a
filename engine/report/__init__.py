"""Reports of studies: their tables and pictures as text, Markdown, HTML, CSV, Parquet and LaTeX."""
