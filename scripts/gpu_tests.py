#!/usr/bin/env python3
"""Used by gpu.sh: runs a Catch2 program, one process for the cases of each of its source files.

After an illegal access a process can do nothing more with its card, and all that follows fails with it. So files do not
share one, and what failed, was being run when its process died, or did not come to be run, is run once more, alone. The
report (JSON) names for each such case what it said first and how it does alone; and for a file whose cases fell
together, the case that they fell with.

    gpu_tests.py --report FILE [--seconds 60] [--jobs 4] [--case-seconds 20] [env NAME=VALUE] PROGRAM

Exits 1 where a case failed or there was no time for it.
"""
import argparse
import concurrent.futures
import html
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

MOST_ALONE = 40  # cases of a file that are run once more
FILE_SHARE = 0.6  # of all the time is the most for a file: the rest is for running alone what fell with it

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("command", nargs="+", help="the program, behind what it is started by")
parser.add_argument("--report", type=pathlib.Path, required=True)
parser.add_argument("--seconds", type=float, default=60)
parser.add_argument("--jobs", type=int, default=4, help="processes at once; cases that are run alone are so indeed")
parser.add_argument("--case-seconds", type=float, default=20, help="for a case alone")
args = parser.parse_args()
begin = time.monotonic()


def left():
    return args.seconds - (time.monotonic() - begin)


def run(arguments, seconds):
    """What the program says, and how it ended: an exit status, "no time" or a signal's name."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([*args.command, *arguments], stdout=out, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            end = process.wait(max(seconds, 0.1))
        except subprocess.TimeoutExpired:
            end = "no time"
            os.killpg(process.pid, signal.SIGKILL)
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                pass  # stuck in the driver: it is left there
        if isinstance(end, int) and end < 0:
            end = signal.Signals(-end).name
        out.seek(0)
        return out.read().decode(errors="replace"), end


def escaped(name):
    """A case's name for Catch2's command line."""
    return re.sub(r"([\\,\[\]])", r"\\\1", name)


def first_line_of_failure(xml):
    """What an exception says, or an expression that does not hold."""
    for tag in ("Exception", "FatalErrorCondition", "Failure", "Expanded"):
        match = re.search(rf"<{tag}\b[^>]*>(.*?)</{tag}>", xml, re.DOTALL)
        if match and match[1].strip():
            return " ".join(html.unescape(match[1]).split())[:300]
    return ""


def cases_of(xml):
    """The cases of a report that may end anywhere: name, True, False or None for "did not end", and its text."""
    parts = re.split(r'<TestCase name="', xml)[1:]
    for part in parts:
        name, _, rest = part.partition('"')
        result = re.search(r'<OverallResult success="(true|false)"', rest)
        yield html.unescape(name), None if result is None else result[1] == "true", rest


def names_in(file):
    ask = ["--filenames-as-tags", f"[#{file}]"]
    version = run(["--libidentify"], 20)[0]
    ask += ["--list-test-names-only"] if re.search(r"version:\s+2", version) else ["--list-tests", "-v", "quiet"]
    return [line.strip() for line in run(ask, 20)[0].splitlines() if line.strip()]


def run_file(file):
    started = time.monotonic()
    xml, end = run(["--filenames-as-tags", f"[#{file}]", "--reporter", "xml"],
                   min(FILE_SHARE * args.seconds, left()))
    seen = list(cases_of(xml))
    group = {"file": file, "cases": 0, "passed": 0, "end": end, "skipped": [], "failed": []}
    for name, good, text in seen:
        group["skipped"] += [name] * ("SKIPPED: " in text or ' skips="1"' in text)
        if good:
            group["passed"] += 1
        else:
            group["failed"].append({"case": name, "first": first_line_of_failure(text) or f"did not end: {end}"})
    known = {name for name, _, _ in seen}
    not_run = [name for name in names_in(file) if name not in known]
    group["failed"] += [{"case": name, "first": f"was not run: {end}"} for name in not_run]
    group["cases"] = len(seen) + len(not_run)
    group["seconds"] = round(time.monotonic() - started, 1)
    return group


def run_alone(group):
    for at, failed in enumerate(group["failed"]):
        if left() < 1 or at >= MOST_ALONE:
            failed["alone"] = "not run: no time" if left() < 1 else "not run: too many"
            continue
        xml, end = run([escaped(failed["case"]), "--reporter", "xml"], min(args.case_seconds, left()))
        results = list(cases_of(xml))
        if results and all(good for _, good, _ in results):
            failed["alone"] = "passes"
        else:
            said = first_line_of_failure(xml)
            failed["alone"] = f"fails: {said}" if said else f"fails: {end}"
    # What passes alone fell with the last before it that does not.
    verdicts = [failed["alone"] for failed in group["failed"]]
    if "passes" in verdicts[1:]:
        fallen = verdicts.index("passes", 1)
        before = [at for at in range(fallen) if verdicts[at].startswith("fails")]
        group["broken_by"] = group["failed"][before[-1] if before else 0]["case"]


def tell(group):
    print(f"{group['file']}: {group['passed']} of {group['cases']} pass, {group['seconds']} s", flush=True)
    if "broken_by" in group:
        print(f'  broken by "{group["broken_by"]}"')
    for failed in group["failed"]:
        print(f'  "{failed["case"]}": {failed["first"]}\n    alone: {failed["alone"]}', flush=True)


def totals(groups):
    total = {key: sum(group[key] for group in groups) for key in ("cases", "passed")}
    total["failed"] = sum(len(group["failed"]) for group in groups)
    total["skipped"] = sum((group["skipped"] for group in groups), [])
    return total


def save(groups):
    """Whole at every moment: who is short of time ends this program."""
    report = {"program": pathlib.Path(args.command[-1]).name, **totals(groups), "groups": groups}
    beside = args.report.with_suffix(".part")
    beside.write_text(json.dumps(report, indent=1))
    beside.rename(args.report)


def main():
    files = re.findall(r"\[#([^\]]+)\]", run(["--list-tags", "--filenames-as-tags"], 20)[0])
    groups = []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for group in pool.map(run_file, files):
            groups.append(group)
            save(groups)
            if not group["failed"]:
                tell(group)
    for group in groups:
        if group["failed"]:
            run_alone(group)
            save(groups)
            tell(group)
    total = totals(groups)
    save(groups)
    print(f"{total['passed']} of {total['cases']} cases pass, {len(total['skipped'])} of them skipped for want of "
          f"fixtures; {time.monotonic() - begin:.0f} s")
    sys.exit(0 if total["passed"] == total["cases"] > 0 else 1)


if __name__ == "__main__":
    main()
