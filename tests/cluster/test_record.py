"""What a sweep leaves on record beside its results, whom it tells, and that it leaves what ran out
of memory."""

from __future__ import annotations

import re

from dashboards.outcomes import SETTLED
from detcore.result import METRICS
from tests.cluster.conftest import Workplace
from tests.orchestrator.test_notify import SECRET, webhook


def test_machine_logs_and_the_webhook(workplace: Workplace) -> None:
    place = workplace
    with webhook() as hook:
        place.environment["SWEEP_WEBHOOK"] = hook.url
        place.write(notify={"webhook": "$SWEEP_WEBHOOK"})
        first = place.run()
        assert first.process.returncode == 0, first.stderr()
        ((_, _, content),) = hook.got
        assert content["event"] == "done"
        assert sum(content["counts"][name] for name in SETTLED if name in content["counts"]) == 2

        for run in place.cells():
            tags = run.data.tags
            assert tags["cpu.name"]
            assert tags["threads.torch"] == tags["threads.omp"] == "1"
            for rank in (0, 1):
                log = (place.cell_folder(run) / f"rank{rank}.log").read_text()
                assert re.match(rf"=== [-\d]+ [:\d]+ rank {rank}, process \d+ on ", log)
        (sweep,) = place.sweeps()
        client = place.client()
        text = client.download_artifacts(sweep.info.run_id, "sweep.yaml")
        assert SECRET not in open(text).read()  # noqa: SIM115, PTH123
        assert SECRET not in first.stderr()

        # one of them ran out of memory, as far as the record goes
        bn, gn = sorted(place.cells(), key=lambda run: run.data.tags["axis.norm"])
        client.set_tag(gn.info.run_id, "cell.outcome", "oom")
        client.set_tag(gn.info.run_id, "cell.reason", "CUDA out of memory")
        (place.cell_folder(gn) / "result.json").unlink()
        again = place.run()
        assert again.process.returncode == 1
        assert "1 cell ran out of memory before and would again (norm=gn seed=0)" in again.stderr()
        assert "norm=gn seed=0: oom: CUDA out of memory" in again.stdout()
        assert len(place.cells()) == 2
        content = hook.got[-1][2]
        assert content["event"] == "failed"
        assert content["counts"] == {bn.data.tags["cell.outcome"]: 1, "oom": 1}
        assert "1 of 2 cells settled, 1 oom" in content["headline"]

        retried = place.run("--retry-failed=oom")
        assert retried.process.returncode == 0, retried.stderr()
        newest = place.cells()[-1]
        assert newest.data.tags["cell.attempt"] == "2"
        assert set(METRICS) <= set(newest.data.metrics)
        assert [content["event"] for _, _, content in hook.got] == ["done", "failed", "done"]
