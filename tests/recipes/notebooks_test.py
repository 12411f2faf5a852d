#!/usr/bin/env python3
"""Runs the three notebooks of textgen-project in Jupyter, one after the other, over the program.

They come without outputs, they run as they are, what each makes is there, and their pictures are as pictures.py wants
them. usage: notebooks_test.py FOLDER, with QUIRE and STEPS in the environment. 77: Jupyter or matplotlib is not there.
"""
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

try:
    import ipykernel  # noqa: F401  the kernel that nbclient starts
    import matplotlib  # noqa: F401
    import nbformat
    from nbclient import NotebookClient
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

TESTS = Path(__file__).resolve().parent
MADE = {
    "1_data_preparation": ["data/raw", "data/processed/manifest.json"],
    "2_training": ["models/tuned/model.safetensors", "models/tuned/report.html", "models/tuned/log.csv"],
    "3_generation_and_evaluation": ["results/generated_texts/generated_texts.jsonl",
                                  "results/evaluation_metrics/evaluation_metrics.csv"],
}
SAID = {
    "1_data_preparation": "records held out to validate on: 1\n",
    "2_training": "kept    step ",
    "3_generation_and_evaluation": "before  The lamp was lit|",
}
found = []


def run(name, folder, project):
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if any(cell.outputs or cell.execution_count for cell in code):
        found.append(f"{name} is kept with its outputs")
    watch = f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nimport pictures\npictures.watch()"
    tell = "import json\nprint(json.dumps([pictures.figures, pictures.found]))"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(watch))
    notebook.cells.append(nbformat.v4.new_code_cell(tell))
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    figures, wrong = json.loads(notebook.cells[-1].outputs[0].text)
    found.extend(f"{name}: {text}" for text in wrong)
    if figures != 1:
        found.append(f"{name} draws {figures} figures, not 1")
    printed = "".join(output.get("text", "") for cell in code for output in cell.outputs)
    if SAID[name] not in printed:
        found.append(f"{name} does not say '{SAID[name]}'")
    found.extend(f"{name} has not made {path}" for path in MADE[name] if not (project / path).exists())


def main():
    with tempfile.TemporaryDirectory() as scratch:
        # A project of its own, with the notebooks in it: what they are made for.
        project = Path(scratch) / "project"
        folder = project / "notebooks"
        shutil.copytree(sys.argv[1], folder)
        shutil.copytree(Path(sys.argv[1]).parents[2] / "samples" / "novels", project / "data" / "raw")
        os.environ.pop("PROJECT_DIR", None)
        for name in MADE:
            run(name, folder, project)
    for line in found:
        print(line)
    sys.exit(1 if found else 0)


main()
