"""Runs a suite on a dataset: every slot is tried, judged and put on disk; running again goes on where it stopped."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_finops.evals.dataset import Dataset
from langchain_finops.evals.one_loop import run_on_loop
from langchain_finops.evals.prepare import Options, Prepared, prepare
from langchain_finops.evals.progress import Observer, Progress
from langchain_finops.evals.reprice import prices_changed, reprice
from langchain_finops.evals.results import ATTEMPTS, RUN, read_run, write_run
from langchain_finops.evals.resume import (
    Earlier,
    Results,
    check_resumable,
    folder_lock,
    read_earlier,
    results_of,
    set_aside,
)
from langchain_finops.evals.suite import Suite
from langchain_finops.evals.workers import Work

__all__ = ["Observer", "Progress", "arun", "run"]


def run(dataset: Dataset, suite: Suite, options: Options | None = None, *, observer: Observer | None = None) -> Results:
    """Run a suite on a dataset, as `arun` does, from code that has no event loop of its own."""
    return run_on_loop(lambda: arun(dataset, suite, options, observer=observer), instead="arun")


async def arun(
    dataset: Dataset, suite: Suite, options: Options | None = None, *, observer: Observer | None = None
) -> Results:
    """Run what is still to be run of a suite on a dataset, and return all that counts.

    Everything is checked before anything is bought. Raises BadData, BadArguments, EvalError or LedgerError; what was
    finished by then is on disk, as it is after a crash.
    """
    prepared = prepare(dataset, suite, options or Options())
    aside = _make_way(prepared)
    missing = [each for each in (prepared.folder, *prepared.folder.parents) if not each.exists()]
    with folder_lock(prepared.folder), ExitStack() as undo:
        earlier = read_earlier(prepared.folder)
        if missing and earlier.run is None:  # Asked under the lock: another run may have made it meanwhile.
            undo.callback(_unmake, missing, aside)
        if earlier.run is None:
            _record_anew(prepared, undo)
        manifest = _manifest(prepared, earlier)
        check_resumable(prepared, manifest, earlier)
        again = earlier.attempts and prices_changed(earlier, manifest)
        if again:
            earlier = reprice(prepared, earlier)
        work = Work(prepared, manifest, earlier, observer)
        if not work.is_finished:
            write_run(prepared.folder, {**manifest, "finished_at": None, "stopped": None})
            stopped = await work.go(begun=undo.pop_all)
            finished_at = datetime.now(UTC).isoformat() if stopped is None else None
            # Whoever sees the figures and then lets them grow has looked once more.
            looks = 1 + ((earlier.run or {}).get("looks") or 0)
            manifest = {**manifest, "finished_at": finished_at, "stopped": stopped, "looks": looks}
        undo.pop_all()
        write_run(prepared.folder, manifest)
        results = results_of(prepared.folder, manifest, read_earlier(prepared.folder))
        return replace(results, repriced=len(earlier.attempts) if again else 0, set_aside=aside)


def _unmake(made: Sequence[Path], aside: Path | None) -> None:
    """Leave all as it was before a run that came to nothing: no folder of its own, earlier results in their place."""
    folder, *above = made
    shutil.rmtree(folder, ignore_errors=True)
    if aside is not None and not folder.exists():
        aside.rename(folder)
    for each in above:
        with suppress(OSError):  # Another run may have put its results there.
            each.rmdir()


def _make_way(prepared: Prepared) -> Path | None:
    """Set earlier results aside where a fresh start is asked for, or where a replay's recording is another one now."""
    if prepared.options.fresh:
        wanted = any((prepared.folder / name).exists() for name in (RUN, ATTEMPTS))
    elif (prepared.folder / RUN).exists():
        run = read_run(prepared.folder)
        wanted = run["mode"] == prepared.mode == "replay" and run["recording_hash"] != prepared.recording_hash
    else:
        wanted = False
    if not wanted:
        return None
    with folder_lock(prepared.folder):  # Nobody else is writing there.
        pass
    return set_aside(prepared.folder, datetime.now(UTC))


def _record_anew(prepared: Prepared, undo: ExitStack) -> None:
    """Set the recording aside that a run which begins is to record anew; one that goes on goes on with its own."""
    recording = prepared.suite.recording
    if prepared.mode != "record" or recording is None:
        return
    if not recording.exists():
        undo.callback(recording.unlink, missing_ok=True)
    elif prepared.options.record_mode == "all":
        moment = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
        kept = recording.rename(recording.with_name(f"{recording.stem}-until-{moment}{recording.suffix}"))
        undo.callback(kept.replace, recording)


def _manifest(prepared: Prepared, earlier: Earlier) -> dict[str, object]:
    """`run.json` as of now; a run that goes on keeps its id and its birthday."""
    if earlier.run is None:
        run_id = f"{prepared.dataset.name}-{uuid4().hex[:8]}"
        return {**prepared.manifest(run_id, datetime.now(UTC)), "finished_at": None, "stopped": None}
    before: Mapping[str, Any] = earlier.run
    kept = {name: before[name] for name in ("finished_at", "stopped", "looks", "merged") if name in before}
    return {**prepared.manifest(before["run_id"], datetime.fromisoformat(before["created_at"])), **kept}
