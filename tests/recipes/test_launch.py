"""`sv6d launch`: what each kind of cluster is given for a recipe."""

import gzip
import json
import shlex
from copy import deepcopy
from itertools import takewhile
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from preflight import example, write_task
from ray.job_submission import JobStatus
from sv6d.recipes.cli import main
from sv6d.recipes.cluster.pools import describe, is_separate, mode_of, nodes_needed, pools, unplaced
from sv6d.recipes.compose import RecipeError, compose
from sv6d.recipes.launching import kubernetes, ray_job, slurm

PLACES = ["sv6d.data=/mnt/data", "sv6d.model=/mnt/model", "sv6d.run_dir=/mnt/runs/leum"]
KUBERNETES = ["--image", "registry/sv6d:1", "--volume", "training:/mnt"]


def launch(*arguments):
    return CliRunner().invoke(main, ["launch", *arguments])


@pytest.fixture(scope="module")
def separate():
    return compose("grpo", "leum_8b_async", PLACES)


@pytest.fixture(scope="module")
def composed_demo():
    return compose("grpo", "cpu_demo", PLACES)


@pytest.fixture
def demo(composed_demo):
    return deepcopy(composed_demo)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    out = tmp_path_factory.mktemp("kubernetes") / "run.yaml"
    result = launch("kubernetes", "leum_8b_async", *PLACES, *KUBERNETES, "--namespace", "video", "-o", str(out))
    assert result.exit_code == 0, result.output
    return yaml.safe_load(out.read_text())


def test_a_recipe_with_rollouts_of_their_own_asks_for_both_kinds_of_nodes(separate):
    assert nodes_needed(separate) == 4
    assert describe(pools(separate)) == (
        "3 x 8 GPUs for training (trainer.nnodes x trainer.n_gpus_per_node) and "
        "1 x 8 GPUs for rollouts (actor_rollout_ref.rollout.nnodes x .n_gpus_per_node)"
    )


@pytest.mark.parametrize(
    ("name", "mode", "apart"),
    [
        ("sync", "sync", False),
        ("sv6d_colocate_async", "colocate_async", False),
        ("separate_async", "separate_async", True),
        ("sv6d_separate_async", "separate_async", True),
        ("inseparate_async", "inseparate_async", False),
    ],
)
def test_a_trainer_of_ours_is_of_the_mode_that_its_name_ends_with(name, mode, apart, demo):
    demo.trainer.v1.trainer_mode = name
    assert (mode_of(demo), is_separate(demo)) == (mode, apart)


@pytest.mark.parametrize(
    ("nodes", "missing"),
    [
        ([(8, 64)] * 4, []),
        ([(8, 64)] * 3, ["rollouts"]),  # the trainer's blocks of 8 are placed first
        ([(8, 64)] * 3 + [(4, 64)] * 2, []),  # rollouts are one GPU each: halves of a node do
        ([(4, 64)] * 8, ["training"]),  # a trainer's node is one block, though 32 GPUs are there
        ([(8, 23)] + [(8, 64)] * 3, []),  # 8 GPUs of training want 3 CPUs each, 24 in all; of rollouts 2 each
        ([(8, 23)] * 2 + [(8, 64)] * 2, ["training"]),
    ],
)
def test_where_the_gpus_of_a_recipe_find_place(nodes, missing, separate):
    assert [pool.name for pool in unplaced(pools(separate), nodes)][:1] == missing


def test_the_batch_file_says_what_the_recipe_needs():
    text = launch("slurm", "leum_8b_async", *PLACES, "--partition", "gpu", "--sbatch", "--qos=high").output
    options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {
        "--job-name=sv6d-leum",
        "--nodes=4",
        "--gpus-per-node=8",
        "--exclusive",
        "--requeue",
        "--signal=B:TERM@600",  # sv6d.grace, 540 s, and a minute
        "--partition=gpu",
        "--qos=high",
    } <= set(options)
    assert f"command=(sv6d grpo leum_8b_async {' '.join(PLACES)})" in text.splitlines()


def test_the_batch_file_of_a_warm_start_asks_for_its_nodes_and_brings_up_no_ray():
    text = launch("slurm", "--sft", "leum_8b", "trainer.nnodes=4", *PLACES).output
    assert {"--job-name=sv6d-leum", "--nodes=4", "--gpus-per-node=8", "--signal=B:TERM@360"} <= set(options_of(text))
    assert f"command=(sv6d sft leum_8b trainer.nnodes=4 {' '.join(PLACES)})" in text.splitlines()
    assert "ray" not in text.lower().split("# what the run needs")[1] and "bring_up() { :; }" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["data.train_batch_size=30"], "data.train_batch_size=30 does not divide over 8 ranks"),
        (["model.lora_rank=8"], "The warm start trains all weights"),
        (["--dry-run"], "`sv6d sft` has no dry run"),
    ],
)
def test_a_warm_start_that_would_wait_in_a_queue_only_to_fail_is_refused(arguments, sentence):
    result = launch("slurm", "--sft", "leum_8b", *PLACES, *arguments)
    assert result.exit_code != 0 and sentence in result.output


@pytest.fixture
def batch(demo):
    """The batch file of the demo's run, of which settings of the site and of the `sv6d:` block are given."""

    def write(run_dir="/mnt/runs/leum", grace=540, **site) -> str:
        demo.sv6d.run_dir, demo.sv6d.grace = run_dir, grace
        chosen = {"time": "24:00:00", "setup": ("module load cuda",), "folder": "/home/me", **site}
        return slurm.batch_file(demo, ["sv6d", "grpo", "cpu_demo"], slurm.Settings(**chosen))

    return write


def options_of(text: str) -> list[str]:
    """As sbatch reads them: up to the first line that is no comment."""
    head = takewhile(lambda line: not line or line.startswith("#"), text.splitlines())
    return [line.removeprefix("#SBATCH ") for line in head if line.startswith("#SBATCH")]


@pytest.mark.parametrize(
    ("run_dir", "name"),
    [
        ("/mnt/runs/leum/", "sv6d-leum"),
        ("/mnt/a run, it's mine", "sv6d-a-run-it-s-mine"),
        ("/mnt/läum", "sv6d-läum"),
        ("/mnt/x\n#SBATCH --account=yours", "sv6d-x-SBATCH---account-yours"),  # no line of its own
    ],
)
def test_a_job_is_named_after_its_run_in_letters_that_slurm_takes(run_dir, name, batch):
    assert options_of(batch(run_dir))[0] == f"--job-name={name}"


def test_a_folder_is_spelt_as_a_line_of_slurm_wants_it(batch):
    assert r'''--chdir="/it's a # \"folder\""''' in options_of(batch(folder='''/it's a # "folder"'''))


def test_what_no_line_of_slurm_can_hold_is_refused(batch):
    with pytest.raises(RecipeError, match="take out the line breaks"):
        batch(extra=("--partition=gpu\nrm -r x",))


@pytest.mark.parametrize(
    ("written", "meant"),
    [("90", 5400), ("9:30", 570), ("24:00:00", 86400), ("1-0", 86400), ("2-3:04:05", 183845), ("UNLIMITED", 0)],
)
def test_times_are_read_as_slurm_writes_them(written, meant):
    assert slurm.seconds(written) == meant


@pytest.mark.parametrize(
    ("time", "sentence"),
    [("10", "--time 10: Slurm warns the run 600 s before"), ("a day", "--time 'a day' is no time limit: write")],
)
def test_a_limit_that_would_warn_the_run_at_its_start_or_is_none_is_refused(time, sentence, batch):
    with pytest.raises(RecipeError, match=sentence):
        batch(time=time)


def test_a_run_that_takes_longer_to_save_is_told_sooner_wherever_it_runs(demo, batch):
    """Clusters are asked for `sv6d.grace` and a minute."""
    assert "--signal=B:TERM@1860" in options_of(batch(grace=1800))
    demo.trainer.nnodes = 2
    settings = kubernetes.Settings("sv6d-grpo", "registry/sv6d:1", "training", "/mnt")
    cluster = (spec := kubernetes.manifest(demo, ["sv6d"], settings)["spec"])["rayClusterSpec"]
    parts = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert [part["template"]["spec"]["terminationGracePeriodSeconds"] for part in parts] == [1860, 1860]
    assert yaml.safe_load(spec["runtimeEnvYAML"]) == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "1860"}}


def test_without_attempts_the_run_is_warned_still_and_a_dry_run_is_not(batch):
    once = options_of(batch(attempts=0))
    assert "--signal=B:TERM@600" in once and "--no-requeue" in once
    assert not any(option.startswith("--signal") for option in options_of(batch(warned=False)))


def test_a_recipe_with_a_ray_of_its_own_is_not_given_a_cluster_that_it_would_not_use():
    result = launch("slurm", "cpu_separate", *PLACES)
    assert result.exit_code == 1 and "Add ray_kwargs.ray_init.address=null" in result.output
    assert launch("slurm", "cpu_separate", *PLACES, "ray_kwargs.ray_init.address=null").exit_code == 0


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    result = launch("slurm", "cpu_demo", *PLACES, "-o", str(tmp_path / "no" / "run.sbatch"))
    assert result.output.endswith("run.sbatch cannot be written: No such file or directory\n")


def test_without_gpus_the_batch_file_states_rays_logical_ones():
    text = launch("slurm", "cpu_demo", *PLACES, "trainer.nnodes=3").output
    assert "#SBATCH --nodes=3" in text and "gpus-per-node" not in text
    assert "ray_options=(--num-gpus=1 --num-cpus=16)" in text


def test_a_recipe_of_ones_own_is_named_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("defaults: [leum_8b_1node, _self_]\n")
    text = launch("slurm", "mine.yaml", *PLACES, "--dry-run").output
    assert f"command=(sv6d grpo {tmp_path}/mine.yaml {' '.join(PLACES)} --dry-run)" in text


def test_the_manifest_is_a_rayjob_as_kuberay_defines_it(manifest):
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    assert manifest["metadata"] == {"name": "sv6d-grpo", "namespace": "video"}
    jsonschema.validate(manifest, strict(rayjob_schema()))
    typo = deepcopy(manifest)
    typo["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="'replica' was unexpected"):
        jsonschema.validate(typo, strict(rayjob_schema()))


def test_a_manifest_has_a_pod_for_each_of_the_recipes_nodes_all_alike(manifest):
    """verl keeps pixels on every node of Ray, the head's too."""
    cluster = manifest["spec"]["rayClusterSpec"]
    [group] = cluster["workerGroupSpecs"]
    [head], [worker] = (part["template"]["spec"]["containers"] for part in (cluster["headGroupSpec"], group))
    assert group["replicas"] == 3  # and the head
    assert head["resources"] == worker["resources"]
    assert worker["resources"]["limits"] == {"cpu": "64", "memory": "1600G", "nvidia.com/gpu": "8"}
    assert [worker["volumeMounts"][0]["mountPath"], head["volumeMounts"][0]["mountPath"]] == ["/mnt", "/mnt"]
    assert shlex.split(manifest["spec"]["entrypoint"]) == ["sv6d", "grpo", "leum_8b_async", *PLACES]


def test_without_gpus_a_pod_states_rays_logical_ones():
    manifest = yaml.safe_load(launch("kubernetes", "cpu_demo", *PLACES, *KUBERNETES).output)
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-gpus": "1", "num-cpus": "16"}
    assert "workerGroupSpecs" not in cluster  # the recipe has one node
    assert "nvidia.com/gpu" not in str(manifest)
    jsonschema.validate(manifest, strict(rayjob_schema()))


def test_paths_that_only_this_machine_knows_are_refused():
    result = launch("kubernetes", "leum_8b_1node", "sv6d.data=data", *PLACES[1:], *KUBERNETES)
    assert result.exit_code == 1
    assert "sv6d.data=data: give whole paths, as they are on the cluster" in result.output


@pytest.mark.parametrize(
    ("run_dir", "mount"),
    [("/runs/leum", "/mnt"), ("/mnt2/leum", "/mnt"), ("/mnt/../leum", "/mnt"), ("/mnt/leum", "/mnt/runs/")],
)
def test_a_run_that_would_go_with_its_pod_is_refused(run_dir, mount):
    places = [f"sv6d.data={mount}/data", "sv6d.model=Qwen/Qwen3-VL-8B-Instruct", f"sv6d.run_dir={run_dir}"]
    result = launch("kubernetes", "cpu_demo", *places, *KUBERNETES[:2], "--volume", f"training:{mount}")
    assert result.exit_code == 1
    assert f"Error: sv6d.run_dir={run_dir}: not below {mount}, where the volume is mounted" in result.output


def test_rows_outside_the_volume_are_refused_and_a_model_may_be_in_the_image():
    result = launch("kubernetes", "cpu_demo", "sv6d.data=/data", *PLACES[1:], *KUBERNETES)
    assert result.exit_code == 1 and "sv6d.data=/data: not below /mnt" in result.output
    result = launch("kubernetes", "cpu_demo", PLACES[0], "sv6d.model=/models/sft", PLACES[2], *KUBERNETES)
    assert result.exit_code == 0
    assert "warning: sv6d.model=/models/sft is not below /mnt: every pod needs it there" in result.stderr


@pytest.mark.parametrize("name", ["My Run", "leum-", "-leum", "8b", "leum.1", "l" * 48, ""])
def test_a_name_that_kuberay_refuses_is_refused_before(name):
    result = launch("kubernetes", "cpu_demo", *PLACES, *KUBERNETES, "--name", name)
    assert result.exit_code == 1 and f"--name {name!r} is none that KubeRay takes" in result.output
    assert launch("kubernetes", "cpu_demo", *PLACES, *KUBERNETES, "--name", "leum-8b").exit_code == 0


def test_a_pod_has_the_memory_that_the_check_takes_a_node_to_have():
    def memory(*more):
        shown = launch("kubernetes", "cpu_demo", *PLACES, *KUBERNETES, *more).stdout
        head = yaml.safe_load(shown)["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
        return head["containers"][0]["resources"]["limits"]["memory"]

    assert (memory(), memory("sv6d.node_gb=900"), memory("--memory", "64Gi")) == ("1600G", "900G", "64Gi")


def test_rows_that_are_seen_from_here_are_reckoned_against_the_nodes_that_are_stated(tmp_path):
    """And this machine's memory is none of theirs."""
    write_task(tmp_path, [example(duration=30.0, query="Which one?")])
    places = [f"sv6d.data={tmp_path}", "sv6d.model=Qwen/Qwen3-VL-8B-Instruct", "sv6d.run_dir=/mnt/run"]
    assert launch("slurm", "leum_8b_1node", *places).exit_code == 0
    result = launch("slurm", "leum_8b_1node", *places, "sv6d.node_gb=500")
    assert result.exit_code == 1 and "Error: host memory: a sequence has up to 15,360 vision tokens" in result.output


def test_a_model_that_is_a_folder_here_is_given_by_its_whole_path_and_one_of_the_hub_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("checkpoints/sft").mkdir(parents=True)
    places = [PLACES[0], "sv6d.model=checkpoints/sft", PLACES[2]]
    assert (
        "sv6d.model=checkpoints/sft: give whole paths" in launch("kubernetes", "cpu_demo", *places, *KUBERNETES).output
    )
    places[1] = "sv6d.model=Qwen/Qwen3-VL-8B-Instruct"
    assert launch("kubernetes", "cpu_demo", *places, *KUBERNETES).exit_code == 0


def test_a_typo_is_found_before_anything_is_queued():
    result = launch("slurm", "leum_8b_async", *PLACES, "trainer.nnode=2")
    assert result.exit_code == 1
    assert "trainer.nnode is no key of recipe leum_8b_async (did you mean trainer.nnodes" in result.output


def test_what_could_only_fail_after_the_queue_is_refused_before_it():
    result = launch("slurm", "leum_8b_1node", *PLACES, "trainer.nnodes=4")  # 32 ranks
    assert result.exit_code == 1
    assert "3,120 sequences, which do not divide over 32 data-parallel ranks" in result.output


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "nonsense"])
def test_a_dashboard_that_is_not_there_is_one_sentence(address):
    result = launch("ray", "cpu_demo", *PLACES, "--address", address)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: no Ray dashboard answers at {address}")


class Dashboard:
    """In place of Ray's: its log of a job ends, for one reason or another, while the job runs on."""

    def __init__(self, error: Exception | None):
        self.error = error

    async def tail_job_logs(self, job):
        yield "step 1\n"
        if self.error:
            raise self.error

    def get_job_status(self, job):
        return JobStatus.RUNNING


def test_a_cluster_that_has_just_started_is_given_time_to_take_a_job(demo, monkeypatch):
    """Its dashboard answers before any node's agent does; other errors are not waited for."""
    said = ["No available agent to submit job, please try again later..."] * 2

    class Dashboard:
        def submit_job(self, **job):
            if said:
                raise RuntimeError(said.pop())
            return "raysubmit_1"

    monkeypatch.setattr(ray_job, "_client", lambda address: Dashboard())
    monkeypatch.setattr(ray_job.time, "sleep", lambda seconds: None)
    assert ray_job.submit("http://head:8265", demo, ["true"]) == "raysubmit_1" and not said
    said.append("Failed to validate the runtime environment")
    with pytest.raises(RuntimeError, match="Failed to validate"):
        ray_job.submit("http://head:8265", demo, ["true"])


@pytest.mark.parametrize("error", [RuntimeError("closed with code 1006"), None])
def test_a_dashboard_that_is_lost_is_no_failure_of_the_job(error, monkeypatch):
    monkeypatch.setattr(ray_job, "_client", lambda address: Dashboard(error))
    seen = []
    with pytest.raises(RecipeError, match="the job raysubmit_1 goes on without this terminal"):
        ray_job.follow("http://head:8265", "raysubmit_1", seen.append)
    assert seen == ["step 1\n"]


def rayjob_schema() -> dict:
    packed = Path(__file__).parent / "kuberay" / "rayjob-v1.json.gz"
    return json.loads(gzip.decompress(packed.read_bytes()))["schema"]


def strict(schema):
    """The schema with unknown fields refused, as the API server drops them in silence."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made
