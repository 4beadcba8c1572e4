"""An app that an agent runs."""

from taskloom import App

app = App("machine")


@app.task
def etch(plate: str, depth: int = 1) -> str:
    return f"{plate}/{depth}"
