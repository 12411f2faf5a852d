#!/usr/bin/env bash
# recipes/cluster/train.sbatch where there is no Slurm: srun is mpirun, and scontrol notes what it is told.
#   cluster_test.sh SOURCE_FOLDER; QUIRE=PROGRAM. Exits with 77 where there is no mpirun.
set -euo pipefail
command -v mpirun >/dev/null || exit 77
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
cat >"$work/bin/srun" <<'END'
#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
exec mpirun -np 2 --bind-to none "$@"
END
cat >"$work/bin/scontrol" <<END
#!/usr/bin/env bash
echo "\$@" >>"$work/told"
END
chmod +x "$work/bin/srun" "$work/bin/scontrol"
export PATH=$work/bin:$PATH SLURM_JOB_ID=17 DATA=$source/samples/quotes.csv OUT=$work/out
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe MODEL=$source/models/narrator
job() {
  "$source/recipes/cluster/train.sbatch" --text-column quote --batch-size 1 --block-size 16 --max-steps "$1" \
    --lr-scheduler-type constant --validation-split 0 --logging-steps 1 >>"$work/log" 2>&1
}

# Almost out of time: the processes are told, the job is requeued and counts as done.
job 100000 &
script=$!
until grep -q '^step 3/' "$work/log" 2>/dev/null; do
  kill -0 $script || { cat "$work/log"; exit 1; }
  sleep 0.1
done
pkill -USR1 -P "$(pgrep -P $script)"  # mpirun, below the script, as Slurm signals the steps of a job
wait $script
grep -q '^requeue 17$' "$work/told"
grep -q 'interrupted after step' "$work/log"

# Requeued, it goes on from there to its end.
rm "$work/told"
job "$(($(basename "$OUT"/checkpoint-* | sed 's/checkpoint-//') + 3))"
grep -q 'going on from' "$work/log"
[ -e "$OUT/model.safetensors" ] && [ ! -e "$work/told" ]
