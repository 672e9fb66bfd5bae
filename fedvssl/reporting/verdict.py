"""Words about what a run has learned on held-out videos: the rows of its table, and the verdict."""

import shlex
from collections.abc import Mapping
from typing import Any

from fedvssl.evaluation.intervals import Difference, in_percent
from fedvssl.reporting import page
from fedvssl.reporting.folders import Folder, read_result

VERDICT_FILE = "verdict.json"  # of fedvssl.verdict
RANDOM = "random weights"
ENTRIES = ("server_round", "dataset", "num_test", "pretext", "features", "verdict")


def held_out(run: Folder) -> str:
    """Section of a report: the verdict and its table, or the command that makes them."""
    found = read_result(run.path / VERDICT_FILE, ENTRIES)
    last = run.rounds[-1]["server_round"] if run.rounds else 0
    if found is None or found["server_round"] != last:
        reason = "The last round was not measured on videos that were held out; this needs no labels:"
        return page.missing(reason, f"python -m fedvssl.verdict {shlex.quote(f'run={run.path}')}")
    header = ["", f"round {last}", "beside it"]
    caption = f"{found['num_test']} videos of {found['dataset']}{whose(found)}"
    return page.paragraph(found["verdict"]) + page.table(header, rows(found), caption=caption, numbers=False)


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Lines of the table: name, value of the run, baseline beside it."""
    task, trained, random = found["pretext"], found["features"]["run"], found["features"][RANDOM]
    lines = []
    for name, (share, *ends) in task.get("better", {}).items():
        lines.append(("pretext loss", f"{task['loss']:.3f}", f"{name} {task[f'trivial_{name}']:.3f}"))
        if f"iou_{name}" in task:
            lines.append(("IoU of predicted boxes", f"{task['iou']:.3f}", f"{name} {task[f'iou_{name}']:.3f}"))
        lines.append((f"videos with a loss below '{name}', %", in_percent(share, ends), "half of them: 50.00"))
    if (probe := "eval_motion_probe") in trained:
        own, before = (
            in_percent(record[probe], (record[f"{probe}_low"], record[f"{probe}_high"])) for record in (trained, random)
        )
        lines.append(("motion probe, % (chance 12.5)", own, f"{RANDOM} {before}, difference {gain(trained).text()}"))
    for name, metric in (
        ("effective rank of the features", "effective_rank"),
        ("spread of the features", "feature_std"),
    ):
        if f"eval_{metric}" in trained:
            own, before = (f"{record[f'eval_{metric}']:.2f}" for record in (trained, random))
            lines.append((name, own, f"{RANDOM} {before}"))
    return lines


def whose(found: Mapping[str, Any]) -> str:
    """Words on the client whose backbone was measured; "" if all have one."""
    if not found.get("of_first_client"):  # which earlier files do not tell
        return ""
    return "; clients keep a part of the backbone: features and motion probe are those of the first client's"


def gain(trained: Mapping[str, Any]) -> Difference:
    """Gain of the motion probe over random weights, on the same clips."""
    return Difference(*(trained[f"gain_motion_probe{end}"] for end in ("", "_low", "_high")))


def table(found: Mapping[str, Any]) -> str:
    """The rows in columns, with a title."""
    lines = [("", f"round {found['server_round']}", "beside it"), *rows(found)]
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    title = f"{found['num_test']} videos of {found['dataset']} that were held out{whose(found)}"
    return "\n".join(
        [title, *(f"{name.ljust(widths[0])}  {own.ljust(widths[1])}  {beside}" for name, own, beside in lines)]
    )


def sentence(found: Mapping[str, Any]) -> str:
    """The verdict: it learns where a 95 % interval lies above the baseline, in each of the two signs there are."""
    task, trained = found["pretext"], found["features"]["run"]
    if "eval_effective_rank" not in trained:
        return "The features are not finite: training has diverged. Lower training.lr and begin anew."
    signs = {
        f"the pretext loss is below that of '{name}' on most of the videos": low > 0.5
        for name, (_, low, _) in task.get("better", {}).items()
    }
    if "gain_motion_probe" in trained:
        signs["the features tell directions of motion better than random weights"] = gain(trained).low > 0
    seen, missing = ([words for words, is_seen in signs.items() if is_seen is wanted] for wanted in (True, False))
    if not signs:
        return "There is no sign to judge by without labels: use retrieval or a probe on labelled videos."
    if not missing:
        return f"It has learned: {' and '.join(seen)}."
    more = f"{_longer(found)}, or hold out more videos."
    if seen:
        return f"It has begun to learn: {' and '.join(seen)}, but not yet surely that {' and '.join(missing)}. {more}"
    return f"Nothing is seen to be learned yet: not surely that {' and '.join(missing)}. {more}"


def _longer(found: Mapping[str, Any]) -> str:
    """Words on how to train for more rounds; a schedule with a length cannot be lengthened."""
    rounds = f"its command again with rounds={2 * found['server_round']}"
    if found.get("schedule_length"):
        other = "another --name after --videos, another hydra.run.dir for fedvssl.main"
        return f"Train anew with more rounds ({rounds} and {other}: the learning rate falls over the rounds of a run)"
    return f"Continue with more rounds ({rounds}; fedvssl.main needs run=<name> beside them)"
