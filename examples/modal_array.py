"""Eight shards of one dataset on Modal, and their merge: `modal run examples/modal_array.py`.

The volume `captions` holds an OUT for each shard. One container at a time writes to each of them: a call that Modal
repeats goes on where the last one stopped.
"""

import modal

import pipeline

SHARDS = 8
HOURS = 3600

app = modal.App("captions")
image = modal.Image.debian_slim().pip_install("vision-batch")
images = modal.Volume.from_name("images")
captions = modal.Volume.from_name("captions", create_if_missing=True)


@app.function(
    image=image,
    cpu=4,
    timeout=24 * HOURS,
    retries=modal.Retries(max_retries=10, initial_delay=60.0),
    secrets=[modal.Secret.from_name("openai")],
    volumes={"/data": images, "/out": captions},
)
def ask(index: int) -> int:
    """One shard. Its share of the limits and of the budget is an eighth."""
    try:
        summary = pipeline.run(
            "/data/shards/*.tar",
            out=f"/out/shard-{index}",
            shard=f"{index}/{SHARDS}",
            config="openai",
            rpm=4800,
            max_cost=400,
            quiet=True,
        )
    finally:
        captions.commit()
    return summary.asked


@app.function(image=image, timeout=4 * HOURS, volumes={"/out": captions})
def merge() -> int:
    """All shards as one dataset."""
    captions.reload()
    report = pipeline.merge([f"/out/shard-{index}" for index in range(SHARDS)], out="/out/all")
    captions.commit()
    return report.records


@app.local_entrypoint()
def main() -> None:
    """Ask all shards at once, then join them."""
    print(f"{sum(ask.map(range(SHARDS))):,} rows asked")
    print(f"{merge.remote():,} records in /out/all")
