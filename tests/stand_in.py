"""The commands that a sweep runs, without what they compute."""

import json
from pathlib import Path
from typing import Any


class StandIn:
    """In place of `run_child`: leaves what the commands would leave, and remembers their words.

    Args:
        fails: a word; a command that has it in one of its words fails.
    """

    def __init__(self, fails: str = "nothing") -> None:
        self.fails, self.modules, self.words = fails, [], []
        self.seen: dict[str, dict[str, int]] = {}  # of results of pre-trained weights, see fedvssl.data.seen

    def __call__(self, command: list[str], **pipes: Any) -> int:
        _, _, module, *words = command
        settings = dict(word.lstrip("-").split("=", 1) for word in words if "=" in word)
        self.modules.append(module.removeprefix("fedvssl."))
        self.words.append(words)
        if any(self.fails in word for word in words):
            print("error: no such thing.", file=pipes["stdout"], flush=True)
            return 2
        getattr(self, module.removeprefix("fedvssl."), lambda _: None)(settings)
        return 0

    def main(self, settings: dict[str, str]) -> None:
        run_dir = Path(settings["hydra.run.dir"])
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / f"round-{settings['rounds']}-weights.npz").touch()
        still = {"trivial_still": 9.5, "iou": 0.6, "iou_still": 0.5, "seconds": 3.0, "num_clips": 20.0}
        records = [{"server_round": 1, "loss": 9.0, **still}, {"server_round": 2, "loss": 8.0, **still}]
        if "eval.every" in settings:
            records = [{"server_round": 0, "eval_R@1": 0.2}, *records, {"server_round": 2, "eval_R@1": 0.3}]
        (run_dir / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    def retrieval(self, settings: dict[str, str]) -> None:
        own = 0.4 + 0.1 * int(settings["seed"])
        rows = {"random": {"R@1": 0.3, "R@5": 0.6, "R@10": 0.7, "R@50": 1.0}}
        if settings["checkpoint"] != "random":
            rows = {"checkpoint": {"R@1": own, "R@5": 0.8, "R@10": 0.9, "R@50": 1.0}, **rows}
        intervals = {row: {"R@1": [metrics["R@1"] - 0.1, metrics["R@1"] + 0.1]} for row, metrics in rows.items()}
        for other, value in (("mean frame", 0.25), ("random initial", 0.2)):
            rows[other], intervals[other] = {**rows["random"], "R@1": value}, {"R@1": [0.2, 0.3]}
        right = {row: {"R@1": digits(metrics["R@1"])} for row, metrics in rows.items()}
        content = {"rows": rows, "intervals": intervals, "right": right, "num_test": 11}
        write_json(Path(settings["work_dir"]) / "retrieval.json", {**content, **part(settings), **self._seen(settings)})

    def linear_probe(self, settings: dict[str, str]) -> None:
        self._probe("linear_probe", {"top1_acc": 0.5, "top5_acc": 1.0, "mean_class_acc": 0.4}, settings)

    def motion_probe(self, settings: dict[str, str]) -> None:
        self._probe("motion_probe", {"top1_acc": 0.5}, settings)

    def _probe(self, name: str, row: dict[str, float], settings: dict[str, str]) -> None:
        content = {"rows": row, "intervals": {"top1_acc": [0.4, 0.6]}, "right": {"top1_acc": digits(0.5)}}
        rows = "checkpoint", "random", "random initial", "mean frame"
        both = {name: dict.fromkeys(rows, own) for name, own in content.items()}
        write_json(
            Path(settings["work_dir"]) / f"{name}.json",
            {**both, "num_test": 11, **part(settings), **self._seen(settings)},
        )

    def finetune_preprocess(self, settings: dict[str, str]) -> None:
        write_json(Path(settings["output_path"]), {})

    def _seen(self, settings: dict[str, str]) -> dict[str, dict[str, int]]:
        return {} if settings["checkpoint"] == "random" else self.seen

    def test(self, settings: dict[str, str]) -> None:
        row = {"top1_acc": 0.7, "top5_acc": 1.0, "mean_class_acc": 0.6, "num_videos": 11}
        row |= {"intervals": {"top1_acc": [0.6, 0.8]}, **part(settings)}
        pretrained = (Path(settings["work_dir"]) / "model_pretrained.pth").is_file()
        row |= self.seen if pretrained else {}
        write_json(Path(settings["work_dir"]) / "test.json", row)
        lines = ["video,label,answer,top1_acc", *(f"v{n},0,0,{digit}" for n, digit in enumerate(digits(0.7)))]
        (Path(settings["work_dir"]) / "predictions.csv").write_text("\n".join(lines) + "\n")


def digits(accuracy: float) -> str:
    """Of 11 test videos the first are right."""
    return "".join("01"[number < 11 * accuracy] for number in range(11))


def part(settings: dict[str, str]) -> dict[str, str]:
    return {"part": "test" if settings["data.validation"] == "null" else "validation"}


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
