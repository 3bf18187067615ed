"""The same load by `wrk`, a compiled generator that leaves more of a small machine to the contestants."""

import json
import resource
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

from bench.load import SETTLE_SECONDS, LoadPlan, LoadResult, form_parts

SCRIPT = Path(__file__).with_name("wrk.lua")


def wrk_path() -> str | None:
    """Return where `wrk` is, None when it is not on the PATH."""
    return shutil.which("wrk")


def generate_with_wrk(wrk: str, plan: LoadPlan) -> LoadResult:
    """Carry out `plan` (without a pause) with one wrk thread. Raises `subprocess.SubprocessError` when it fails."""
    before, after = form_parts(plan)
    credentials = b64encode(f"{plan.account}:{plan.secret}".encode()).decode("ascii")
    command = [
        wrk, "--threads", "1", "--connections", str(plan.callers), "--duration", f"{plan.seconds:.0f}s",
        "--timeout", f"{SETTLE_SECONDS:.0f}s", "--script", str(SCRIPT),
        "--header", f"Authorization: Basic {credentials}",
        f"http://{plan.host}:{plan.port}{plan.path}", "--", before, after, str(plan.first_number),
    ]  # fmt: skip
    used_before = _children_cpu_seconds()
    ended = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=plan.seconds + SETTLE_SECONDS * 2
    )
    figures = json.loads(ended.stderr.strip().splitlines()[-1])
    failures = int(figures["failures"])
    return LoadResult(
        seconds=figures["seconds"],
        requests=max(0, int(figures["answers"]) - failures),
        failures=failures,
        p50_ms=figures["p50_ms"],
        p90_ms=figures["p90_ms"],
        p99_ms=figures["p99_ms"],
        max_ms=figures["max_ms"],
        generator_cpu_seconds=_children_cpu_seconds() - used_before,
        generator="wrk",
    )


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
