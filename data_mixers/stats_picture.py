"""A picture of rows: how many of each task, how long, and how even their tags are."""

from pathlib import Path

from .stats import Stats

COLOUR, OTHER = "#0072B2", "#b6bec8"  # Okabe and Ito's blue; grey


def draw(stats: Stats, path: Path) -> None:
    """
    Raises:
        ModuleNotFoundError: matplotlib is missing; `pip install 'sv6d[reports]'` has it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    balance = stats.balance()
    tasks = [task for task, _ in reversed(stats.rows.most_common())]
    panels = 3 if balance else 2
    figure = Figure(figsize=(5.5 * panels, 1.2 + 0.32 * max(len(tasks), len(balance), 6)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    axes[0].barh(tasks, [stats.rows[task] for task in tasks], color=COLOUR)
    axes[0].set_title("Rows by task")
    timed = [task for task in tasks if task in stats.durations]
    if timed:
        axes[1].boxplot(
            [stats.durations[task] for task in timed], orientation="horizontal", tick_labels=timed, showfliers=False
        )
    axes[1].set_title("Seconds of video")
    if balance:
        names = sorted(balance, key=balance.get, reverse=True)
        axes[2].barh(
            names, [balance[name] for name in names], color=[COLOUR if balance[n] >= 0.8 else OTHER for n in names]
        )
        axes[2].set_xlim(0, 1)
        axes[2].set_title("Balance of the tags (1: even)")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
