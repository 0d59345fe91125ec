"""The table of checks: how they are run, what stops a launch, what the command prints."""

import io
import subprocess
import sys

import pytest
from omegaconf import OmegaConf
from preflight import example, findings, only, recipe_with, subject, write_json, write_task
from rich.console import Console
from sv6d.recipes.checking import CHECKS, Check, Finding, environment, inputs, line, quick, refuse
from sv6d.recipes.checking.cli import show
from sv6d.recipes.checking.finding import NotKnown, note
from sv6d.recipes.checking.table import run
from sv6d.recipes.cluster import nodes
from sv6d.recipes.cluster.nodes import NodeReport
from sv6d.recipes.compose import RecipeError


def test_the_names_of_the_checks_are_distinct():
    names = [one.name for one in CHECKS]
    assert len(names) == len(set(names))


def test_what_a_check_lacks_is_a_note_and_its_own_fault_an_error_that_stops_no_other():
    def lacks(subject):
        yield note("first")
        raise NotKnown("there is no model")

    def breaks(subject):
        raise KeyError("x")

    found = [finding for function in (lacks, breaks) for finding in run(Check("c", function), None)]
    assert found == [
        Finding("note", "c", "first"),
        Finding("note", "c", "not checked: there is no model"),
        Finding("error", "c", "the check itself failed: KeyError: 'x'"),
    ]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("trainer.nnodes=four", "trainer.nnodes='four' is text, and a number is wanted"),
        ("trainer.total_training_steps=null", "None"),
    ],
)
def test_a_check_that_stumbles_over_an_unusable_value_leaves_it_to_the_check_that_names_it(setting, named):
    def breaks(subject):
        raise TypeError("unsupported operand")

    [(level, _, text)] = run(Check("c", breaks), subject("leum_8b_1node", setting))
    assert level == "note" and text.startswith("not checked: ") and named in text


@pytest.fixture
def launched(tmp_path):
    """A recipe for the CPU whose model and rows are there."""
    write_json(tmp_path / "model" / "config.json", {"model_type": "qwen3_vl"})
    write_task(tmp_path, [example("subject", truth="[]") for _ in range(9)])

    def launched(*settings):
        return recipe_with("cpu_demo", f"sv6d.data={tmp_path}", f"sv6d.model={tmp_path / 'model'}", *settings)

    return launched


def test_a_launch_is_told_what_the_quick_checks_say(launched):
    told = [line(finding) for finding in quick(launched())]
    assert "note: batch: 39 prompts x 8 = 312 sequences over 1 rank: 312 each, one gradient step" in told
    assert any(text.startswith("warning: quotas: the rows are of 1 tasks and sv6d.tasks=13") for text in told)


def test_a_launch_with_errors_is_refused_with_all_of_them(launched):
    wrong = [
        "trainer.savefreq=3",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=100",
        "reward.reward_kwargs.alhpa=1",
    ]
    with pytest.raises(RecipeError) as refused:
        quick(launched(*wrong))
    head, *sentences = refused.value.message.splitlines()
    assert head == "4 reasons not to start:" and all(sentence.startswith("- ") for sentence in sentences)
    assert sentences[0].startswith("- keys: trainer.savefreq is read by nothing")
    assert "actor.ppo_micro_batch_size_per_gpu=100 does not divide a rank's share of 312" in sentences[1]
    assert "rollout.log_prob_micro_batch_size_per_gpu=100" in sentences[2]  # follows the actor's in this recipe
    assert "alhpa" in sentences[3]


def test_the_quick_checks_of_a_cpu_recipe_import_nothing_heavy(launched, tmp_path):
    OmegaConf.save(launched(), tmp_path / "config.yaml", resolve=True)
    code = (
        "import sys; from omegaconf import OmegaConf; import sv6d.recipes.running.grpo; from sv6d.recipes.checking import quick; "
        f"quick(OmegaConf.load({str(tmp_path / 'config.yaml')!r})); "
        "print([name for name in ('torch', 'verl', 'ray', 'transformers', 'vllm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "setting", ["trainer.nnodes=0", "trainer.n_gpus_per_node=0", "sv6d.group_size=0", "sv6d.gpu_gb=big"]
)
@pytest.mark.parametrize("recipe", ["leum_8b_1node", "leum_8b_async"])
def test_a_value_that_nothing_can_be_reckoned_with_is_the_only_reason_whatever_stumbles_over_it(recipe, setting):
    of = subject(recipe, setting)
    found = [finding for one in CHECKS if one.quick and one.name != "inputs" for finding in run(one, of)]
    [(_, check, text)] = [finding for finding in found if finding.level == "error"]
    assert check in ("group", "values") and setting.partition("=")[0] in text


def test_a_single_error_is_a_sentence_under_its_checks_name():
    with pytest.raises(RecipeError) as refused:
        refuse([Finding("note", "a", "fine"), Finding("error", "b", "it is wrong; do this")])
    assert refused.value.message == "b: it is wrong; do this"
    assert refuse([Finding("warning", "a", "slow")]) is None


@pytest.mark.parametrize(
    ("there", "mend"),
    [
        (
            0,
            "this machine has 0. Run it where there are GPUs (`sv6d launch` starts it on a cluster), or take a recipe for",
        ),
        (2, "this machine has 2. Set trainer.n_gpus_per_node=2"),
    ],
)
def test_a_machine_with_too_few_gpus_is_told_what_can_work(there, mend, monkeypatch):
    monkeypatch.setattr(inputs, "gpus_here", lambda: there)
    [finding] = inputs.enough_gpus(recipe_with("leum_8b_1node"))
    assert finding.level == "error" and mend in finding.text
    assert list(inputs.enough_gpus(recipe_with("leum_8b_1node", f"trainer.n_gpus_per_node={there}"))) == []


def test_the_table_shows_each_finding_and_counts_what_is_amiss():
    out = io.StringIO()
    findings = [
        Finding("error", "batch", "a [b] c"),
        Finding("note", "rows", "40 rows"),
        Finding("note", "x", "not checked: no y"),
    ]
    show("mine", findings, Console(file=out, width=100))
    text = out.getvalue()
    assert "error" in text and "a [b] c" in text and "ok" in text and text.rstrip().endswith("1 error")
    out = io.StringIO()
    show("mine", findings[1:], Console(file=out, width=100))
    assert out.getvalue().rstrip().endswith("nothing is amiss")


GOOD = NodeReport("one", 8, 64, versions={"verl": "0.9.1"}, paths={"sv6d.data": "f"})


def test_nodes_that_disagree_are_errors_in_their_own_words(monkeypatch):
    """The nodes' answers are written by hand here; test_launching asks a real cluster."""
    monkeypatch.setattr(nodes, "inspect_nodes", lambda config, wait: [GOOD, GOOD._replace(name="two", shared=False)])
    level, text = only(environment.nodes, subject("leum_8b_1node"))
    assert level == "error" and text.startswith("two does not share sv6d.run_dir with one")
    monkeypatch.setattr(nodes, "inspect_nodes", lambda config, wait: [GOOD, GOOD._replace(name="two")])
    assert only(environment.nodes, subject("leum_8b_1node"))[0] == "note"


def test_a_cluster_that_is_not_there_is_an_error(monkeypatch):
    def nowhere(config, wait):
        raise RecipeError("no Ray cluster answers at 'auto'")

    monkeypatch.setattr(nodes, "inspect_nodes", nowhere)
    assert only(environment.nodes, subject("leum_8b_1node")) == ("error", "no Ray cluster answers at 'auto'")


NAMES = {"algorithm.adv_estimator": ["gdpo", "grpo"], "trainer.logger": ["console", "file"]}
NAMES["reward.reward_manager.name"] = ["naive", "sv6d"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("algorithm.adv_estimator=grppo", "algorithm.adv_estimator=grppo is none that verl has; did you mean 'grpo'"),
        ("trainer.logger=[file, consol]", "trainer.logger=consol is none that verl has; did you mean 'console'?"),
        (
            "reward.reward_manager.name=sv6",
            "reward.reward_manager.name=sv6 is none that verl has; did you mean 'sv6d'?",
        ),
    ],
)
def test_names_that_verl_does_not_have_are_errors_with_the_nearest(monkeypatch, setting, said):
    monkeypatch.setattr(environment, "_probe", lambda: {"loaded": True, "problems": [], "names": NAMES})
    assert findings(environment.names, subject("leum_8b_1node")) == []
    level, text = only(environment.names, subject("leum_8b_1node", setting))
    assert level == "error" and text.startswith(said)


def test_a_reward_manager_of_ones_own_file_has_any_name(monkeypatch):
    monkeypatch.setattr(environment, "_probe", lambda: {"loaded": True, "problems": [], "names": NAMES})
    own = "reward.reward_manager.name=Mine", "reward.reward_manager.source=importlib"
    assert findings(environment.names, subject("leum_8b_1node", *own)) == []


def test_a_logger_that_is_not_installed_is_named(monkeypatch):
    assert findings(environment.loggers, subject("cpu_demo", "trainer.logger=[console, tensorboard]")) == []
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    level, text = only(environment.loggers, subject("cpu_demo", "trainer.logger=[file, wandb]"))
    assert (
        level == "error"
        and "trainer.logger asks for wandb, which is not installed here" in text
        and "pip install wandb" in text
    )


def test_where_verl_does_not_load_no_name_is_checked(monkeypatch):
    monkeypatch.setattr(environment, "_probe", lambda: {"loaded": False, "problems": ["no verl"]})
    with pytest.raises(NotKnown, match="verl does not load"):
        findings(environment.names, subject("leum_8b_1node"))


@pytest.mark.parametrize(
    ("answer", "level", "said"),
    [
        ({"loaded": True, "problems": [], "mends": {"a": "applied"}, "platform": "cpu"}, "note", "platform cpu"),
        ({"loaded": False, "problems": ["no entry point"]}, "error", "the plug-in is not in place: no entry point"),
        (
            {"loaded": True, "problems": [], "mends": {"a": "failed: x"}},
            "error",
            "mends of verl that did not take: a (failed: x)",
        ),
    ],
)
def test_the_answer_of_a_fresh_process_is_told(monkeypatch, answer, level, said):
    monkeypatch.setattr(environment, "_probe", lambda: answer)
    found, text = only(environment.plug_in, subject())
    assert found == level and said in text
