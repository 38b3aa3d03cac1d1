"""Every benchmark, asked of those who know all answers or none, on rows of our own making."""

import json
import os

import pytest
import rows

from parrotlab.evals import answerers, harness, judging, sets
from parrotlab.text.hub import DataError

pytest.importorskip("lm_eval", reason="asks with lm-evaluation-harness: pip install parrotlab[eval]")

PAPER = {
    "knowledge": {"triviaqa", "nq_open", "hotpotqa", "web_questions", "complex_web_questions"},
    "commonsense": {
        *("arc_easy", "arc_challenge", "commonsense_qa", "hellaswag", "openbookqa"),
        *("piqa", "sciq", "social_iqa", "winogrande"),
    },
    "math": {"svamp", "gsm8k", "gsm_hard", "math", "minerva_math"},
}
KNOWN = harness.benchmarks()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(rows.fill(tmp_path_factory.mktemp("data")))


@pytest.fixture(params=KNOWN.values(), ids=KNOWN)
def benchmark_(request):
    return request.param


def scores(asked):
    return {measurement.metric: measurement.value for measurement in asked.measurements}


def ask(benchmark, answer, folder, limit=3):
    task = harness.task(benchmark, folder, shots=0)
    return harness.ask(answerers.answerer(answer), benchmark, task, limit)


def test_the_nineteen_benchmarks_of_the_paper_are_here():
    named = {group: {one.name for one in KNOWN.values() if one.group == group} for group in PAPER}
    assert named == PAPER
    assert sum(map(len, named.values())) == 19


def test_each_shows_a_row_that_its_own_reader_takes_and_says_whose_rows_are_under_which_licence(benchmark_, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows.write(path, [benchmark_.about["example"]])
    items = getattr(sets, benchmark_.reader)(str(path))["items"]
    assert len(items) == 1
    assert benchmark_.about["licence"]
    assert benchmark_.about["home"].startswith("https://")
    assert benchmark_.path.stem == benchmark_.name


def test_who_knows_every_answer_scores_everything(benchmark_, folder):
    asked = ask(benchmark_, answerers.oracle, folder)
    assert len(asked.answers) == 3
    assert scores(asked) == dict.fromkeys(benchmark_.metrics, 1.0)
    assert {(m.evaluation, m.split, m.count) for m in asked.measurements} == {(benchmark_.name, benchmark_.split, 3)}


def test_who_answers_wrongly_scores_nothing(benchmark_, folder):
    def wrong(row):
        return str((row["label"] + 1) % len(row["choices"])) if "choices" in row else "nobody knows"

    assert scores(ask(benchmark_, wrong, folder)) == dict.fromkeys(benchmark_.metrics, 0.0)


def test_its_default_examples_stand_before_each_item_and_are_the_same_for_all(benchmark_, folder):
    task = harness.task(benchmark_, folder)
    harness.ask(answerers.answerer(answerers.oracle), benchmark_, task, 2)
    contexts = [request.args[0] for request in task.instances if request.idx == 0]
    shown = next((contexts[0][:n] for n, (a, b) in enumerate(zip(*contexts)) if a != b), contexts[0])
    delimiter = task.config.fewshot_delimiter
    assert shown.count(delimiter) >= benchmark_.default_shots or not benchmark_.default_shots
    assert len(task.dataset[sets.SHOTS]) >= benchmark_.default_shots


def test_an_item_keeps_its_name_whoever_is_asked_with_how_many_examples(folder):
    benchmark = KNOWN["arc_easy"]
    task = harness.task(benchmark, folder, shots=2)
    two = harness.ask(answerers.answerer(answerers.longest), benchmark, task, 3)
    none = ask(benchmark, answerers.oracle, folder)
    assert [answer.item for answer in two.answers] == [answer.item for answer in none.answers]
    assert len({answer.item for answer in none.answers}) == 3


def test_the_majority_gives_the_answer_that_is_right_most_often(tmp_path):
    example = KNOWN["arc_easy"].about["example"]
    turned = [rows.varied(example, number) for number in (1, 2, 1, 3)]
    rows.write(tmp_path / "arc_easy" / "test.jsonl", turned)
    task = harness.task(KNOWN["arc_easy"], str(tmp_path))
    assert harness.most_common(KNOWN["arc_easy"], task) == str(turned[0]["label"])


def test_the_longest_choice_is_counted_in_bytes():
    assert answerers.longest({"choices": ["abc", "né!", "ab"]}) == "1"


def test_what_a_blank_is_filled_with_is_judged_by_what_follows():
    row = {"question": "The _ sang.", "choices": ["parrot", "pear"], "label": 0, "item": "x", "blank": True}
    answer = judging.choice_answer(row, [(-1.0, False), (-2.0, False)])
    assert answer.choice_bytes == (5, 5)
    assert judging.choice(row, [(-1.0, False), (-2.0, False)]) == {"acc": 1.0, "acc_norm": 1.0}


def test_a_group_or_names_choose_and_a_misspelt_name_gets_a_hint():
    assert {one.name for one in harness.chosen(KNOWN, [], "knowledge")} == PAPER["knowledge"]
    assert len(harness.chosen(KNOWN, [])) == 19
    assert [one.name for one in harness.chosen(KNOWN, ["piqa"])] == ["piqa"]
    with pytest.raises(ValueError, match="did you mean 'hellaswag'"):
        harness.chosen(KNOWN, ["helaswag"])
    with pytest.raises(ValueError, match="no group 'maths': did you mean 'math'"):
        harness.chosen(KNOWN, [], "maths")


def test_more_examples_than_there_are_or_none_at_all_are_refused(folder):
    with pytest.raises(DataError, match="arc_easy has 12 examples to show, not 13"):
        harness.task(KNOWN["arc_easy"], folder, shots=13)
    with pytest.raises(DataError, match="sciq has no examples to show: ask it with --shots 0"):
        harness.task(KNOWN["sciq"], folder, shots=1)


def test_worked_examples_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path))
    rows.write(tmp_path / "gsm8k" / "test.jsonl", [KNOWN["gsm8k"].about["example"]])
    with pytest.raises(DataError, match=r"gsm8k shows the examples of prompts/cot_fewshot.json, which is not"):
        harness.task(KNOWN["gsm8k"])


OWN = """
task: quiz
output_type: multiple_choice
custom_dataset: !function parrotlab.evals.sets.choices
dataset_kwargs: {items: quiz_rows}
test_split: items
fewshot_split: shots
num_fewshot: 0
doc_to_text: "Q: {{question}}\\nA:"
doc_to_choice: choices
doc_to_target: label
process_results: !function parrotlab.evals.judging.choice
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


def test_a_set_of_ones_own_is_one_task_file_beside_its_rows(tmp_path):
    (tmp_path / "quiz.yaml").write_text(OWN)
    rows.write(tmp_path / "quiz_rows.jsonl", [rows.varied(KNOWN["arc_easy"].about["example"], n) for n in range(5)])
    known = harness.benchmarks([tmp_path])
    assert [one.name for one in harness.chosen(known, [], "own")] == ["quiz"]
    assert scores(ask(known["quiz"], answerers.oracle, "")) == {"acc": 1.0}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("task: [", "not a task file"),
        ("task: quiz", "needs the field 'custom_dataset'"),
        (OWN.replace("sets.choices", "sets.choises"), "did you mean 'choices'"),
    ],
)
def test_a_task_file_that_is_none_is_one_clear_line(words, reason, tmp_path):
    (tmp_path / "quiz.yaml").write_text(words)
    with pytest.raises(DataError, match=reason):
        harness.benchmarks([tmp_path])


def test_any_user_of_lm_eval_may_ask_our_task_files(folder, monkeypatch):
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("PARROTLAB_DATA", folder)
    manager = TaskManager(include_path=str(harness.FOLDER), include_defaults=False)
    results = simple_evaluate(
        answerers.answerer(answerers.oracle),
        tasks=["piqa", "winogrande", "parrotlab_knowledge", "gsm8k"],
        task_manager=manager,
        limit=2,
        bootstrap_iters=0,
    )["results"]
    assert set(results) == {"piqa", "winogrande", "gsm8k", *PAPER["knowledge"]}
    assert all(found.get("acc,none", found.get("exact_match,none")) == 1.0 for found in results.values())


@pytest.mark.skipif(not os.environ.get("PARROTLAB_DATA"), reason="needs the sets themselves: set PARROTLAB_DATA")
def test_who_knows_every_answer_scores_everything_on_the_sets_themselves(benchmark_):
    task = harness.task(benchmark_)
    asked = harness.ask(answerers.answerer(answerers.oracle), benchmark_, task, 3)
    assert scores(asked) == dict.fromkeys(benchmark_.metrics, 1.0)
    assert json.loads(json.dumps(asked.answers[0].item)) == task.dataset[sets.ITEMS][0]["item"]
