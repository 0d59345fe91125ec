set -euo pipefail

# Slurm's warning before the end of the time limit reaches this shell, which hands it on: the run saves and ends.
warned= run=
trap 'warned=1; [ -z "$run" ] || kill -TERM "$run" 2>/dev/null || true' TERM

# What the run needs on the nodes before it starts.
bring_up

# The run. It waits until every node is there, and says what to change where one is not fit.
"${command[@]}" &
run=$!
if [ -n "$warned" ]; then kill -TERM "$run" 2>/dev/null || true; fi # before the run was there
status=0
wait "$run" || status=$?
while kill -0 "$run" 2>/dev/null; do # a signal had ended the wait, not the run
  status=0
  wait "$run" || status=$?
done

# What was cut short goes on in a next attempt, from its checkpoint. A job that is cancelled is no longer RUNNING and stays so; one that
# Slurm itself preempts is requeued by Slurm.
state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T || true)
if [ -n "$warned" ] && [ "$status" -ne 0 ] && [ "$state" = RUNNING ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$attempts" ]; then
  echo "the time is over; the run goes on in attempt $((${SLURM_RESTART_COUNT:-0} + 2)) of this job"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
