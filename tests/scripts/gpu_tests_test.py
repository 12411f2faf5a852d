#!/usr/bin/env python3
"""scripts/gpu_tests.py over the cases beside this file, built as one program: its arguments are the two programs."""
import json
import pathlib
import subprocess
import sys
import tempfile

runner, program = sys.argv[1:]


def run(seconds):
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        result = subprocess.run([sys.executable, runner, program, "--report", report, "--seconds", str(seconds),
                                 "--case-seconds", "1"], capture_output=True, text=True)
        return result, json.loads(report.read_text())


result, report = run(16)
groups = {group["file"]: group for group in report["groups"]}
assert result.returncode == 1, result
assert (report["cases"], report["passed"], report["failed"]) == (12, 4, 8), report
assert set(groups) == {"sound_cases", "sticky_cases", "dying_cases", "waiting_cases"}, groups.keys()

sound = groups["sound_cases"]
assert (sound["passed"], sound["failed"], sound["skipped"]) == (2, [], ["wants a fixture"]), sound

sticky = {failed["case"]: failed for failed in groups["sticky_cases"]["failed"]}
fault = "the fault, in [brackets], with a comma"
assert groups["sticky_cases"]["broken_by"] == fault, groups["sticky_cases"]
assert sticky[fault]["alone"] == "fails: CUDA error: an illegal memory access was encountered", sticky
assert sticky["an expression that does not hold, and no fault"]["alone"].startswith("fails: "), sticky
for after in ("first", "second"):
    assert "illegal memory access" in sticky[f"after the fault, {after}"]["first"], sticky
    assert sticky[f"after the fault, {after}"]["alone"] == "passes", sticky

dying = {failed["case"]: failed for failed in groups["dying_cases"]["failed"]}
assert groups["dying_cases"]["broken_by"] == "the death", groups["dying_cases"]
assert dying["the death"] == {"case": "the death", "first": "did not end: 3", "alone": "fails: 3"}, dying
assert dying["after the death"]["first"] == "was not run: 3", dying
assert dying["after the death"]["alone"] == "passes", dying

waiting = {failed["case"]: failed for failed in groups["waiting_cases"]["failed"]}
assert groups["waiting_cases"]["broken_by"] == "waits for what does not come", groups["waiting_cases"]
assert waiting["behind what waits"]["alone"] == "passes", waiting
assert 'broken by "the death"' in result.stdout, result.stdout

# What there is no time for is named, and counts as failed.
result, report = run(2)
assert result.returncode == 1 and report["passed"] <= 4, report
failed = [failed for group in report["groups"] for failed in group["failed"]]
assert len(failed) >= 8 and all(case["alone"] == "not run: no time" for case in failed), report
print("what breaks, dies or waits is named, and what fell with it is run alone")
