"""The report command: all sections of a full folder, nothing from outside the page, sentences for what is missing."""

import json
import re
import shutil
import subprocess
import sys
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from fedvssl import report
from fedvssl.data.annotations import Annotation
from fedvssl.data.seen import SEEN_FILE, seen_videos
from fedvssl.files.arrays import save_arrays
from fedvssl.reporting import figures
from tests.run_folders import (
    NUM_ROUNDS,
    round_records,
    write_evaluations,
    write_finetuning,
    write_json,
    write_lines,
    write_picture,
    write_pretraining,
)

SECTIONS = [
    *("Configuration", "Partition", "Loss", "Held-out videos", "Seconds and bytes", "Evaluation", "Fine-tuning"),
    *("Results", "Confusion", "Nearest videos", "Machine", "Citation"),
]


class Page(HTMLParser):
    """Everything that a browser would fetch or follow, the tags, and the text of each section by its title."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.links, self.tags, self.sections = html, [], [], {}
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open = [*self.open, tag][-3:]
        fetching = ("src", "href", "xlink:href", "srcset", "poster", "data", "action", "background")
        self.links += [value or "" for name, value in attrs if name in fetching]
        assert not any(name.startswith("on") for name, _ in attrs), (tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self.open = ["/"]

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["h2"]:
            self.sections[data] = ""
        elif self.sections:
            self.sections[[*self.sections][-1]] += " ".join(data.split()) + " " * (not data.isspace())


def page_of(*words: object) -> Page:
    assert report.main([str(word) for word in words]) == 0
    return Page((Path(str(words[0])) / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts of a page empty: drawing them takes nearly all the time of a report."""
    monkeypatch.setattr(figures, "_svg", lambda _figure, title: f'<svg role="img" aria-label="{escape(title)}"></svg>')


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A full run and two fine-tunings of the same videos."""
    folder = tmp_path_factory.mktemp("outputs")
    finetuned, scratch = folder / "finetuned", folder / "scratch"
    write_finetuning(scratch, top1_acc=0.4)
    write_evaluations(write_finetuning(finetuned), "last")
    return [write_pretraining(folder), finetuned, scratch]


@pytest.fixture(scope="module")
def full(folders: list[Path]) -> Page:
    return page_of(folders[0], "--include", *folders[1:])


def test_a_full_run_fills_every_section(full: Page) -> None:
    assert [*full.sections] == SECTIONS
    assert 'class="missing"' not in full.html and "It has learned." in full.sections["Held-out videos"]
    for title, pictures in {
        "Loss": 6,
        "Seconds and bytes": 3,
        "Evaluation": 3,
        "Fine-tuning": 2,
        "Partition": 1,
    }.items():
        part = full.html.split(f"<h2>{title}</h2>")[1].split("</section>")[0]
        assert part.count("<svg ") == pictures, title
    marked = "; test list, as published: do not choose an epoch by it"
    for title, more in {"Accuracy; bands": "", "Top-1 accuracy; bars": marked}.items():
        assert f"<figcaption>{title} are 95 % intervals{more}</figcaption>" in full.html
    assert full.tags.count("img") == 2 + 3 * 4  # confusion matrices; evaluations of two rounds and one included folder


def test_tables_hold_the_numbers(full: Page) -> None:
    results, costs = full.sections["Results"], full.sections["Seconds and bytes"]
    for words in ("finetuned 70.00 [50.0, 80.0] 100.00 70.00", "scratch 40.00 [20.0, 50.0] 100.00"):
        assert words in results
    assert "majority class 25.00" in results and "chance 20.00" in results
    assert "pre-training, round-2-weights.npz 52.00 [42.0, 62.0] 52.00" in results
    assert "round-4-weights.npz 54.00 [44.0, 64.0]" in results
    # Once for each protocol and set of videos: all checkpoints have the same baselines, which come last.
    assert results.count("random weights, seed 7 12.50 [2.5, 22.5]") == 4
    assert len(re.findall(r"random weights, seed 7 [^a-z]+mean frame, no network 25\.00", results)) == 4
    assert results.count("chance 6.25") == 1, "of the motion probe"
    for words in ("chance, motion probe: 12.5 %", "chance, R@1 and kNN top-1: 1.0 %", "chance, 5 classes: 20.0 %"):
        assert f">{words}<" in full.html, "a dashed line beside the accuracies between rounds"
    assert "R@50" in results and "k=200" in results
    assert "waiting for clients 10.0 s 40.0 s 75.5 %" in costs  # of 4 rounds of 12 s and 2 evaluations of 2.5 s
    assert "aggregation 1.5 s" in costs and "the rest 0.5 s" in costs and "evaluation 1.2 s 5.0 s" in costs
    assert "training 3.0 s" in costs and "communication and queue 1.0 s" in costs and "its other work 0.5 s" in costs
    assert "to the clients 6.0 MB 24.0 MB" in costs


def chart(page: Page, title: str) -> str:
    """The SVG below a title."""
    return page.html.split(f"<figcaption>{title}", 1)[1].split("</svg>")[0]


def test_losses_stand_beside_trivial_ones_and_boxes_beside_still_ones(full: Page) -> None:
    for title, names in {
        "Global, with its parts": ("loss", "loss_ctr", "still"),
        "Overlap of the predicted boxes": ("IoU", "standing still"),
        "Active units of the head": ("client 1", "global"),
        "Gradient norm of the backbone": ("client 3", "global"),
        "Loss</figcaption>": ("finetuned", "scratch", "chance, 1.61"),
    }.items():
        drawn = chart(full, title)
        assert all(f">{name}<" in drawn for name in names), title
        assert ("stroke-dasharray" in drawn) == ({"still", "standing still", "chance, 1.61"} & {*names} != set()), title
    assert "is not 5 % below" not in full.html and "SGD" in full.sections["Configuration"].split("All settings")[0]


@pytest.mark.usefixtures("words_alone")
@pytest.mark.parametrize(("still", "told"), [(2.3, True), (2.4, False)])
def test_a_loss_that_has_not_beaten_a_trivial_one_is_told_first(tmp_path: Path, still: float, told: bool) -> None:
    run = write_pretraining(tmp_path, evaluated=False)
    records = [record for n in range(1, NUM_ROUNDS + 1) for record in round_records(n, evaluated=False)]
    write_lines(run / "metrics.jsonl", [{**record, "trivial_still": still} for record in records])
    section = page_of(run).sections["Loss"]  # the last loss is 2.25
    sentence = "The loss of round 4, 2.25, is not 5 % below 2.3, that of 'still', which looks at no sample"
    assert section.startswith(sentence) == told and ("is not 5 % below" in section) == told


@pytest.mark.usefixtures("words_alone")
def test_predicted_boxes_are_shown_if_they_were_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_pretraining(tmp_path, evaluated=False)
    assert "True boxes" not in page_of(run).sections["Loss"]
    write_picture(run / "ctp.png")
    page = page_of(run)
    shown = page.html.split("<h2>Loss</h2>")[1].split("</section>")[0]
    assert "True boxes (solid) and predicted ones (dashed)" in shown and 'src="data:image/png;base64,' in shown
    (run / "ctp.png").write_bytes(b"GIF89a")
    assert report.main([str(run)]) == 2 and "ctp.png is no PNG" in capsys.readouterr().err


def test_validation_results_are_marked_and_share_no_table_with_the_test_list(
    folders: list[Path], tmp_path: Path
) -> None:
    run = write_pretraining(tmp_path, overrides=("data.validation=0.2",))
    held_out = {"part": "validation", "validation": 0.2, "validation_seed": 0, "held_out": "in whole groups"}
    old = json.loads(next(run.glob("evaluation/round-4*/retrieval.json")).read_text())
    write_json(run / "evaluation/round-4-weights-ucf101-split1-validation/retrieval.json", {**old, **held_out})
    write_picture(run / "evaluation/round-4-weights-ucf101-split1-validation/retrieval.png")
    chosen = write_finetuning(tmp_path / "chosen", part="validation")
    page = page_of(run, "--include", chosen, folders[2])
    words = "11 validation videos (held out in whole groups)"
    assert f"{words} of ucf101, split 1; 10 clips" in page.sections["Results"]
    assert f"{words} and 20 training videos of ucf101" in page.sections["Results"]
    assert page.sections["Results"].count("majority class 25.00") == 2, "of the test list and of the held-out videos"
    assert "ucf101 split 1, validation videos" in page.sections["Nearest videos"]
    assert (
        "top-1, chosen, validation videos" in page.html and "R@1, round-4-weights.npz, validation videos" in page.html
    )
    drawn = chart(page, "Top-1 accuracy")
    assert (
        ">chosen, validation: 66.7 %<" in drawn
        and ">scratch, test: 66.7 %<" in drawn
        and "do not choose an epoch by it" in page.html
    )
    assert "Accuracy on validation videos; bands" in page.html
    assert "do not choose an epoch by it" not in page_of(run, "--include", chosen).html


def test_the_head_names_the_run(full: Page) -> None:
    head = full.html.split("<main>")[0]
    assert "FedVSSL (alpha 0.9, beta 1) on ucf101" in head and f"{NUM_ROUNDS} of {NUM_ROUNDS}" in head
    assert "9 → 2.25" in head and "70.00 [50.0, 80.0] %" in head and "54.00 [44.0, 64.0] %" in head
    assert "36.0 MB" in head


@pytest.mark.usefixtures("words_alone")
def test_machine_is_that_of_the_run(folders: list[Path], tmp_path: Path) -> None:
    run = write_pretraining(tmp_path)
    entries = json.loads((run / "environment.json").read_text())
    elsewhere = {
        **entries[0],
        "done": 2,
        "processor": "Abacus 7",
        "gpus": ["NVIDIA H200, 1 MiB, driver 5"],
        "revision": None,
    }
    write_json(run / "environment.json", [*entries, elsewhere])
    shown = page_of(run).sections["Machine"]
    assert entries[0]["processor"] in shown and "Abacus 7" in shown and "NVIDIA H200" in shown
    assert re.search(r"from round or epoch\s+1\s+3", shown) and "an installed package" in shown and "ray" in shown


def test_nothing_is_loaded_and_nothing_runs(full: Page) -> None:
    assert full.links and all(link.startswith(("data:", "#")) for link in full.links)
    assert not {"script", "iframe", "object", "embed", "form", "base"} & {*full.tags}
    assert re.findall(r"url\((?!#)|@import", full.html) == []
    assert "default-src 'none'" in full.html


def test_names_inside_the_charts_are_their_own(full: Page) -> None:
    """Where a clip path of one chart had the name of another's, the browser would take the first."""
    clips = re.findall(r'<clipPath id="([^"]+)"', full.html)
    assert len(clips) >= 11 and len(clips) == len(set(clips))


def test_text_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&\"'"
    run = write_pretraining(tmp_path).rename(tmp_path / evil.replace("/", ""))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("name: ucf101", f"name: |-\n    {evil}"))
    records = [{**record, f"loss_{evil}": 1.0} for record in round_records(1, evaluated=True)]
    write_lines(run / "metrics.jsonl", [{**records[0], f"eval_{evil}": 0.5}, *records[1:]])
    result = {"dataset": evil, "split": evil, "checkpoint": evil, "rows": {"checkpoint": {evil: 0.5}}}
    for protocol in ("retrieval", evil):
        write_json(run / f"evaluation/x/{len(protocol)}.json", {"protocol": protocol, **result})
    write_json(run / "environment.json", [{"done": 0, "processor": evil, "versions": {evil: evil}}])
    page = page_of(run)
    assert "script" not in page.tags and "<script" not in page.html
    assert all(evil in page.sections[name] for name in ("Configuration", "Loss", "Results", "Machine"))


@pytest.mark.usefixtures("words_alone")
def test_an_empty_folder_names_the_commands(tmp_path: Path) -> None:
    run = write_pretraining(tmp_path / "my run", evaluated=False, overrides=("partition_dir=none", "pool_size=1"))
    for path in run.glob("*"):
        if path.name != "config.yaml":
            path.unlink()
    page = page_of(run)
    assert [*page.sections] == SECTIONS
    commands = {"Partition": "data_tools.partition", "Loss": "fedvssl.main", "Seconds and bytes": "fedvssl.main"}
    commands |= {"Evaluation": "eval.every=5", "Fine-tuning": "fedvssl.finetune", "Confusion": "fedvssl.test"}
    commands |= {"Nearest videos": "fedvssl.retrieval", "Machine": "fedvssl.main", "Results": "fedvssl.linear_probe"}
    for title, command in commands.items():
        assert command in page.sections[title], title
    assert f"'checkpoint={run}/round-<N>-weights.npz'" in page.sections["Results"]


@pytest.mark.usefixtures("words_alone")
def test_a_run_without_what_newer_versions_write(tmp_path: Path) -> None:
    """As of a version before environment.json, settings.json and seconds_on_client, cut off while it wrote."""
    run = write_pretraining(tmp_path, evaluated=False)
    (run / "environment.json").unlink()
    (run / "settings.json").unlink()
    records = round_records(1, evaluated=False)
    config = yaml.safe_load((run / "config.yaml").read_text())
    for section in ("optimizer", "schedule"):
        del config["training"][section]
    del config["data"]["validation"], config["eval"]["validation"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    for record in records:
        for name in ("seconds_on_client", "trivial_still", "iou", "iou_still", "active_share", "backbone_grad_norm"):
            del record[name]
    write_lines(run / "metrics.jsonl", records)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"server_round": 2, "lo')
    page = page_of(run)
    assert "no readable environment.json" in page.sections["Machine"] and "1 of 4" in page.html
    assert "its other work" not in page.sections["Seconds and bytes"]
    assert page.html.split("<h2>Loss</h2>")[1].split("</section>")[0].count("<svg ") == 3
    assert "optimizer" not in page.sections["Configuration"].split("All settings")[0]


@pytest.mark.usefixtures("words_alone")
def test_a_partition_that_was_made_again_is_not_shown(tmp_path: Path) -> None:
    run = write_pretraining(tmp_path)
    whole = page_of(run)
    assert "<svg" in whole.html.split("<h2>Partition</h2>")[1].split("</section>")[0]
    (tmp_path / "client_distribution/client_dist2.json").write_text("[]")
    page = page_of(run)
    assert "31 videos over 3 clients, each at exactly one" in whole.sections["Partition"]
    assert "no longer those of this run" in page.sections["Partition"]
    assert "<svg" not in page.html.split("<h2>Partition</h2>")[1].split("</section>")[0]


@pytest.mark.usefixtures("words_alone")
def test_shared_and_lost_videos_are_told(tmp_path: Path) -> None:
    run = write_pretraining(tmp_path, evaluated=False)
    path = tmp_path / "client_distribution/partition_stats.json"
    stats = json.loads(path.read_text())
    stats["video_overlap"][0][1] = stats["video_overlap"][1][0] = 4
    write_json(path, {**stats, "unassigned_videos": 2})
    shown = page_of(run).sections["Partition"]
    assert "2 of them at none, and 4 times two clients have the same one" in shown and "two clients share: 4" in shown


@pytest.mark.usefixtures("words_alone")
def test_fedavg_has_no_alpha(tmp_path: Path) -> None:
    page = page_of(write_pretraining(tmp_path, evaluated=False, overrides=("strategy.fedavg=true",)))
    assert (
        "<h1>FedAvg on ucf101</h1>" in page.html
        and "alpha" not in page.sections["Configuration"].split("All settings")[0]
    )


def test_many_clients_share_one_look(tmp_path: Path) -> None:
    run = write_pretraining(tmp_path, evaluated=False)
    record = round_records(1, evaluated=False)[1]
    write_lines(
        run / "metrics.jsonl",
        [*round_records(1, evaluated=False)[:1], *({**record, "partition_id": n} for n in range(30))],
    )
    page = page_of(run)
    assert "each of 30 clients" in page.sections["Loss"] and "client 7" not in page.sections["Loss"]


def test_output_and_included_folders_of_one_name(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = [
        write_finetuning(tmp_path / seed / "finetuned", top1_acc=acc) for seed, acc in (("seed7", 0.6), ("seed8", 0.8))
    ]
    output = tmp_path / "new" / "page.html"
    words = [folders[0], "--include", seeds[0], "--include", seeds[1], "--output", output]
    assert report.main([str(word) for word in words]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    results = Page(output.read_text()).sections["Results"]
    assert f"{seeds[0]} 60.00" in results and f"{seeds[1]} 80.00" in results


def test_the_same_folders_give_the_same_page(full: Page, folders: list[Path]) -> None:
    assert page_of(folders[0], "--include", *folders[1:]).html == full.html


def test_cites_what_the_citation_file_names(full: Page) -> None:
    paper = yaml.safe_load((Path(__file__).parent.parent / "CITATION.cff").read_text())["preferred-citation"]
    cited = full.sections["Citation"]
    assert paper["title"] in cited and paper["url"] in cited and f"{{{paper['year']}}}" in cited
    assert all(f"{author['family-names']}, {author['given-names']}" in cited for author in paper["authors"])
    assert "Unsupervised Visual Representation Learning by Tracking Patches in Video" in cited and "2105.02545" in cited


def test_answers_without_torch() -> None:
    code = "import sys, fedvssl.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def damage(run: Path, name: str, content: str | bytes) -> None:
    path = run / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("config.yaml", "", "is no run of fedvssl.main"),
        ("config.yaml", "{", "config.yaml is damaged"),
        ("config.yaml", "from_scratch: true", "give it with --include"),
        ("metrics.jsonl", '{"epoch": 1}\n', "metrics.jsonl has records without 'server_round'"),
        ("evaluation/x/knn.json", "{", "knn.json is damaged"),
        ("evaluation/x/knn.json", '{"rows": {}}', "knn.json is damaged"),
        ("evaluation/x/knn.json", '{"dataset": 1, "split": 1, "checkpoint": 1, "rows": [1]}', "knn.json is damaged"),
        ("evaluation/round-4-weights-ucf101-split1/knn.png", "GIF89a", "knn.png is no PNG"),
        ("test.json", "[]", "test.json is damaged"),
    ],
)
def test_a_damaged_file_is_one_sentence_and_exit_code_2(
    folders: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str | bytes,
    sentence: str,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(folders[0], run, ignore=lambda *_: ["report.html"])
    damage(run, name, content)
    assert report.main([str(run)]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and told.err.count("\n") == 1 and sentence in told.err and not told.out
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["{tmp}/none"], "no run of this name in outputs or this folder has a federated pre-training"),
        (["{tmp}"], "is no run of fedvssl.main"),
        (["{run}", "--include", "{tmp}/none"], "no run of this name in outputs or this folder has a fine-tuned model"),
        (["{run}", "--include", "{tmp}"], "no metrics.jsonl, test.json or evaluation/"),
        (["{run}", "--include", "{run}"], "has records without 'epoch'"),
        (["{run}", "--output", "{tmp}"], "is a folder: name a file, such as"),
    ],
)
def test_a_mistake_is_one_sentence(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert report.main([word.format(tmp=tmp_path, run=folders[0]) for word in words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and sentence in told


@pytest.mark.usefixtures("words_alone")
def test_what_was_measured_otherwise_stands_in_a_table_of_its_own(tmp_path: Path) -> None:
    run = write_pretraining(tmp_path / "run")
    small = json.loads(next(run.rglob("retrieval.json")).read_text())
    small["settings"] = {"test_sample": {"crop_size": 32}}
    write_json(run / "evaluation/small/retrieval.json", small)
    write_json(run / "evaluation/mine/mine.json", {**small, "protocol": "my <own>"})
    results = page_of(run).sections["Results"]
    assert results.count("clips each, 112 pixels") == 4 and results.count("clips each, 32 pixels") == 2
    assert "my <own>" in results


@pytest.mark.usefixtures("words_alone")
def test_tests_at_other_picture_sizes_stand_apart_and_test_videos_in_training_are_told(tmp_path: Path) -> None:
    run = write_pretraining(tmp_path / "run")
    videos = [Annotation("a/1", 0), Annotation("a/2", 0)]
    save_arrays(run / SEEN_FILE, seen_videos("ucf101", videos, stage="pre-training", allowed=videos[:1]))
    clips, folders = {"clip_len": 16, "frame_stride": 2, "size": [171, 128], "crop_size": 112}, []
    for name, own in {"big": clips, "small": {**clips, "crop_size": 32}, "old": {}, "also_big": clips}.items():
        folders.append(write_finetuning(tmp_path / name))
        test = json.loads((folders[-1] / "test.json").read_text())
        write_json(
            folders[-1] / "test.json", {**test, **own, **({"seen": {"pre-training": 1}} if name == "big" else {})}
        )
    page = page_of(run, "--include", *folders)
    results = page.sections["Results"]
    assert results.count("majority class") == 3 and results.count("10 clips each, 112 pixels, 16 frames, stride 2") == 1
    assert (
        results.count("10 clips each, 32 pixels, 16") == 1 and "10 clips each, length and picture size not" in results
    )
    assert "big; pre-training had 1 of these videos 70.00" in results and "also_big 70.00" in results
    assert "test videos in pre-training 1, as was allowed" in page.sections["Configuration"]
