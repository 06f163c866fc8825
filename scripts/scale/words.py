"""The words of docs/scale.md; the numbers in them come from `distillab.scale`."""

# By resource of `Scale.loads`: what it is, its unit, and what helps.
RESOURCES = {
    "limit": (
        "disk: the cache of every epoch, against `cache.limit_gb`",
        "GB",
        "`cache.limit_gb`, `cache.top_k=8`, `data.views=8`",
    ),
    "memory": (
        "host memory: one view in every process that fills the cache",
        "GB",
        "`cache.top_k=8`, fewer GPUs while it is filled",
    ),
    "cores": ("decoding: cores of one machine", "cores", "more cores, smaller files, or images decoded once"),
    "images": ("network card: image files", "GB/s", "a copy of the images on each machine's disk"),
    "answers": ("network card: the teacher's answers", "GB/s", "`cache.top_k=8`"),
}

READING = """
**Shared** by all runs on one file system: the teacher (trained or loaded once), its answers (one cache for every seed and
method that reads logits, one more for those that read embeddings too), the same student trained alone, and the decoded
images where they are decoded at all. A method that reads feature maps runs the teacher live and saves nothing here.

**Disk.** With the cache of every epoch and decoding that keeps up, the study takes {saved} % fewer GPU hours than with a live
teacher. The default `cache.limit_gb={limit}` holds {views_wide} views in float16 and {views_narrow} with `cache.top_k=8`; at the limit the filling ends with
one line, and training goes on with a live teacher.

**Decoding.** A random crop needs the whole image, so every view is read from its file. One GPU at full speed keeps {cores}
cores busy. On the cores assumed here reading alone takes the whole study {bound} hours, with a cache or without one: where
that is more than the last column above, it is what the study takes, and the cache saves the teacher's energy rather than
time. Where a crop of the decoded square will do, the images can be decoded once and mapped by all runs of a machine:
`data.augment.resized_crop=0 data.memory_budget=300` takes {decoded}.

**File system metadata.** A view is {shards} files; {files} for 300 views, which any file system holds. A run that fills the cache
looks at all of them about once a minute to know the space that is taken; a run that only reads does not.

**Host memory.** A process that fills the cache holds the whole view until it is written, at a checkpoint or when the next view
begins: {held_wide} in float16, on every GPU of a machine, and twice that where a method reads a strong view too. What was
not yet written when a process dies is computed again. A process that only reads maps the files, and shares them with the
others of its machine.

**Filling at once.** Runs that start together in an empty cache reach each epoch together, and each computes the same view:
the cache saves nothing between them. Fill it with one run first. On many devices each process writes its share into
every file under a lock, which rewrites {rewrite_wide} a view on {gpus} GPUs in float16, and {rewrite_narrow} with `cache.top_k=8`: fill on a few
GPUs, or with `cache.top_k=8`. One GPU fills while it trains its own student in {fill} hours.

**One run per GPU.** A student takes {alone} hours on one GPU, and the methods come in {rounds} rounds, so the sweep itself ends after
{wall} hours; the table's last column is the limit when no GPU is idle.
"""

LAUNCHERS = """
## How to run it

    python train.py -m strategy=kd,dkd,dist seed=0,1,2                            # one cell after another
    python train.py sweep=methods launcher=joblib hydra.launcher.n_jobs=4         # four cells at once on this machine
    python train.py sweep=methods launcher=submitit hydra.launcher.gpus_per_node=1  # every cell a Slurm job with a GPU
    python train.py trainer=ddp trainer.devices=4                                 # one run on four GPUs of this machine

`launcher=joblib` and `launcher=submitit` come with `pip install "distillab[sweeps]"`. Without a launcher a
sweep runs one cell at a time, on one GPU. With `launcher=joblib` on a machine of several GPUs the cells that run at once
hold `trainer.devices` GPUs each, by file locks: set `hydra.launcher.n_jobs` to the number of GPUs, divided by
`trainer.devices`. Its default, −1, starts a process for each core; those beyond the GPUs wait, and on a machine of one GPU all
of them share it. On Slurm `hydra.launcher.partition=…` names the partition. There is no launcher for Ray: hydra-ray-launcher
pins ray, and cloudpickle below 3, which would hold back those of joblib and submitit. Jobs of several machines
share what one file system holds: `paths.store` and `paths.runs` must lie on it, or each machine trains its own teacher.
`hydra/launcher=submitit_local` tries the Slurm form without Slurm.

One run on several GPUs takes `trainer=ddp` with `trainer.devices` a number, or `auto` for all. One run on several machines is
started on each of them by torchrun, which was never tried; here two with eight GPUs:

    torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=first-machine:29500 \\
        train.py trainer=ddp trainer.devices=8 trainer.num_nodes=2

A teacher too large for one GPU beside the student: `teacher.shard=true cache.mode=never`. During the student's fit each
GPU then holds its share of the teacher's weights and gathers one block of it at a time, while every process keeps the
whole teacher in the host's memory. It is tested on two CPU processes and was never run on several GPUs.
`teacher.dtype=bfloat16` halves the teacher first, and needs one GPU only.

`recipe.batch_size` is global: it must divide by the number of GPUs. `trainer.sync_batchnorm=true` is refused on CPUs, where torch
has none, and was never run on several GPUs. The same command given twice is one run: the second process waits, and shows
what the first one made. A run that ended or was stopped goes on with the same command.
"""
