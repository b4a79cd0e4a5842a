"""Write a page for every module, from its docstrings: ``python docs/api.py FOLDER``."""

import os
import pkgutil
import sys
from pathlib import Path

import pdoc

import engine

os.environ["PDOC_ALLOW_EXEC"] = "1"  # MLflow asks which system this is when it is imported

# The package lists its public names, which are loaded when they are used, and not its modules.
MODULES = [f"engine.{found.name}" for found in pkgutil.iter_modules(engine.__path__)]

if __name__ == "__main__":
    pdoc.render.configure(docformat="google", search=True, footer_text=f"vldistill {engine.__version__}")
    pdoc.pdoc("tasks", *MODULES, output_directory=Path(sys.argv[1]))
    print(f"{sys.argv[1]}/index.html")
