"""Mistakes in the rows and measures of a sweep."""

import pytest

from fedvssl import sweep

TWO_SEEDS = "seeds=[1,2]"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("rows.random.start=here", r"rows\.random\.start=here is none of: random, random_initial, scratch, mean_frame"),
        ("+rows.random.override=[]", r"rows\.random has 'override', which is none of: alone, overrides, pooled, start"),
        ("+rows.fedvssl_09_1={alone: 4}", r"rows\.fedvssl_09_1\.alone=4 must be a client, 1 to 3"),
        (
            "+rows.fedvssl_09_1={alone: 1, pooled: true}",
            r"rows\.fedvssl_09_1 is alone, and pooled or with a start",
        ),
        ("+rows.random.alone=1", r"rows\.random is alone, and pooled or with a start"),
        ("+rows.fedvssl_09_1={alone: yes}", r"rows\.fedvssl_09_1\.alone=.* must be the number of a client, from 1"),
        ("rows.fedvssl_09_1.overrides=seed", r"rows\.fedvssl_09_1\.overrides=seed must be a list of words"),
        ("+measures.few={command: knn, columns: {}}", "measures.few needs 'columns'"),
        ("measures.retrieval.rows=random", r"measures\.retrieval\.rows=random must be a list of words"),
        ("+measures.retrieval.baseline=none", r"measures\.retrieval names the row none, which is none of"),
        ("+measures.pretrain={command: finetune, columns: {a: b}}", r"measures\.pretrain: the name is that of pre"),
        (
            "+measures.few={command: base, columns: {a: b}}",
            r"measures\.few needs a command: .*; base is none",
        ),
        ("overrides.finetune=['labels_per_class=0']", r"labels_per_class=0 must be null or a whole number"),
        ("baseline=fedavgm", r"baseline=fedavgm is none of the rows: mean_frame, random"),
        ("+measures.retrieval.row=[]", r"measures\.retrieval has 'row', which is none of: baseline, columns"),
        ("+measures.knn={rows: null}", r"measures\.knn needs 'columns'"),
        (
            "+measures.few={command: finetune, overrides: ['labels=1'], columns: {top1_acc: few}}",
            "'labels' is no setting here",
        ),
        (
            "measures.finetune.rows=[none]",
            r"measures\.finetune names the row none, which is none of: mean_frame, random",
        ),
        ("seeds=7", r"seeds=7 must be a list of whole numbers"),
        ("splits=[]", r"splits=\[\] must be a list"),
        ("overrides.main=['rownds=2']", "rownds"),
        ("no_such_key=1", "no_such_key"),
        ("+rows={../../evil: {start: random}}", r"rows: the name '../../evil-seed\d-split1' leads outside the folder"),
        (
            "+measures={../evil: {command: knn, columns: {a: b}}}",
            r"measures: the name '../evil' leads outside the folder",
        ),
    ],
)
def test_mistakes_get_a_sentence(change: str, sentence: str, words: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ValueError, match=sentence):
        sweep.sweep([*words, change])
    assert sweep.main([*words, change]) == 2 and capsys.readouterr().err.startswith("error: ")
