"""Papers and terms by the classes and the data set in the settings of a run."""

import re

import pytest

from fedvssl.config import compose, conf_dir
from fedvssl.files.references import REFERENCES, bibtex, names_in, terms

OURS = "rehman2022fedvssl"


def keys(text: str) -> list[str]:
    return re.findall(r"^@\w+{(\w+),$", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "cited"),
    [
        (["task=simclr", "strategy=fedavg"], {"chen2020simclr", "mcmahan2017fedavg"}),
        (["task=byol", "strategy=fedema"], {"grill2020byol", "mcmahan2017fedavg", "zhuang2022fedema"}),
        (["task=byol", "strategy=fedbyol"], {"grill2020byol", "mcmahan2017fedavg", "zhuang2021fedu"}),
        (["task=byol", "strategy=ldawa"], {"grill2020byol", "rehman2023ldawa"}),
        (["task=simsiam", "strategy=fedu"], {"chen2021simsiam", "mcmahan2017fedavg", "zhuang2021fedu"}),
        (["task=moco_v2", "strategy=fedavg"], {"he2020moco", "chen2020mocov2", "mcmahan2017fedavg"}),
    ],
)
def test_a_run_cites_its_method_its_model_and_its_data(words: list[str], cited: set[str]) -> None:
    names = names_in(compose("base", [*words, "model=resnet18", "data=cifar10"]))
    assert {*keys(bibtex(names))} == {OURS, *cited, "he2016resnet", "krizhevsky2009cifar"}
    assert terms(names).startswith("CIFAR-10 and CIFAR-100 are") and terms(names).count(".") == 1


def test_the_published_run_cites_what_it_did() -> None:
    assert keys(bibtex(names_in(compose("base", [])))) == [OURS, "wang2021ctp", "soomro2012ucf101"]


def test_what_is_unknown_cites_this_software_alone() -> None:
    assert keys(bibtex({"Mine"})) == [OURS] and terms({"Mine"}) == ""


def test_every_data_set_has_terms_and_every_entry_is_reached() -> None:
    for path in (conf_dir() / "data").glob("*.yaml"):
        assert terms({path.stem}), path
    text = REFERENCES.read_text(encoding="utf-8")
    named = {name for line in re.findall(r"keywords  = {(.*)},", text) for name in line.split(", ")}
    assert keys(bibtex(named)) == keys(text) and "keywords" not in bibtex(named) and "terms  " not in bibtex(named)
    assert text.count("{") == text.count("}")
