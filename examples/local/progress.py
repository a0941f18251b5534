"""A task says how far it is; its caller follows, in a loop or at the end.

`context.progress` tells how far, `context.save` keeps an intermediate value. With `monitor_progress=True`
the caller gets every report. Without it progress still travels, at most ten times a second, the newest
wins.

Run:
    python examples/local/progress.py

Prints:
    SENT
    RECEIVED
    STARTED
    PROGRESS 1/3 london.csv
    PROGRESS 2/3 paris.csv
    PROGRESS saved ['london.csv', 'paris.csv']
    PROGRESS 3/3 tokyo.csv
    SUCCESS 28
    saved: ['london.csv', 'paris.csv']
"""

import dingo

app = dingo.App()


@app.task
def count_letters(context: dingo.Context, files: list[str]) -> int:
    """Pretend that reading a file takes long. `context` is no argument of the call: dingo fills it in."""
    letters = 0
    for number, name in enumerate(files, 1):
        letters += len(name)
        context.progress(number, len(files), name)
        if number == 2:
            context.save(files[:number])
    return letters


def describe(report: dingo.Report) -> str:
    """Put a report in one line."""
    if report.progress is not None:
        return f"{report.status.name} {report.progress.done}/{report.progress.total} {report.progress.message}"
    if report.status is dingo.Status.PROGRESS:
        return f"{report.status.name} saved {report.value}"
    return f"{report.status.name} {report.value}" if report.final else report.status.name


with app:
    result = count_letters.options(monitor_progress=True).call(["london.csv", "paris.csv", "tokyo.csv"])
    for report in result.reports():  # from the first report on, however late we ask; ends after the final one
        print(describe(report))
    print("saved:", result.saved)
