"""bench/peers.py's arithmetic, tables and pictures over results made by hand; and that the documents say what
bench/results says."""
import contextlib
import io
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import types
import unittest
from unittest import mock
import xml.dom.minidom

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import cpu_report  # noqa: E402
import measured  # noqa: E402
import peer_works  # noqa: E402
import peers  # noqa: E402
import plots  # noqa: E402
import scaling  # noqa: E402

DECODE, ENCODE = "decode/gpt2/float32/batch:1", "encode/prose"
CONTEXT = {"cpu": "Made-up CPU", "num_cpus": 2, "commit": "0123456789ab", "date": "2026-01-02T03:04:05+0000",
           "device": "CPU, made up", "versions": {"torch": "9.9"}, "left_out": {}}


def own(work, index, ms, **more):
    """quire's entry of a round: 100 bytes and 50 flops under ceilings of 1e6 bytes/s and 1e6 flops/s."""
    seconds = ms * 1e-3
    entry = {"iterations": 10, "real_time": ms * 1e6, "fastest": ms * 0.9e6, "slowest": ms * 1.1e6,
             "bytes_per_second": 100 / seconds, "flops_per_second": 50 / seconds, "bandwidth_ceiling": 1e6,
             "flops_ceiling": 1e6, "percent_of_bandwidth": 100 / seconds / 1e4, "percent_of_flops": 50 / seconds / 1e4,
             "items_per_second": 1 / seconds} | more
    return measured.entry_of({"work": work, "who": "quire", "entry": entry, "peak_memory_bytes": 5e8}, index)


def peer(work, who, index, *ms, items=1):
    return measured.entry_of({"work": work, "who": who, "items": items, "seconds": [m * 1e-3 for m in ms]}, index)


def generate_part():
    entries = [own(DECODE, 0, 1.0), peer(DECODE, "slow", 0, 2.0, 2.2, 9.0), own(DECODE, 1, 2.0),
               peer(DECODE, "slow", 1, 8.0), own(DECODE, 2, 1.0), peer(DECODE, "slow", 2, 3.0),
               peer(DECODE, "quick", 0, 0.5)]
    return {"context": {**CONTEXT, "left_out": {"broken": "error: it is"}}, "benchmarks": measured.with_ceilings(entries)}


def scaling_part(times, work_bytes=(1000, 2000, 4000)):
    entries = []
    for x, ms, amount in zip((1, 2, 4), times, work_bytes):
        for index, factor in enumerate((1.0, 1.02)):
            seconds = ms * factor * 1e-3
            entry = own("batches/decode/float32", index, ms * factor, bytes_per_second=amount / seconds, flops_per_second=0)
            entries.append(entry | {"x": x})
    return {"context": CONTEXT, "benchmarks": entries}


class Arithmetic(unittest.TestCase):
    def test_an_entry_of_a_list_of_times(self):
        entry = peer(DECODE, "slow", 3, 4.0, 2.0, 9.0, items=8)
        self.assertAlmostEqual(entry["real_time"], 4e6)
        self.assertAlmostEqual(entry["fastest"], 2e6)
        self.assertAlmostEqual(entry["slowest"], 9e6)
        self.assertAlmostEqual(entry["items_per_second"], 2000)
        self.assertEqual((entry["name"], entry["repetition_index"], entry["iterations"]), (DECODE + "/slow", 3, 3))

    def test_ratios_are_those_of_rounds(self):
        programs = measured.grouped(generate_part()["benchmarks"])[DECODE]
        for found, wanted in zip(measured.ratio(programs["quire"], programs["slow"]), (3.0, 2.2, 4.0)):
            self.assertAlmostEqual(found, wanted)  # 2.2, 8 / 2 and 3; not 3 / 1 of the medians of each
        self.assertEqual(measured.ratio(programs["quire"], programs["quick"]), (0.5, 0.5, 0.5))
        self.assertIsNone(measured.ratio(programs["quire"], [peer(DECODE, "late", 7, 1.0)]))

    def test_spread_is_of_medians_of_rounds(self):
        programs = measured.grouped(generate_part()["benchmarks"])[DECODE]
        self.assertAlmostEqual(measured.spread(programs["quire"]), 1.0)
        self.assertAlmostEqual(measured.spread(programs["slow"]), (8.0 - 2.2) / 3.0)
        self.assertIsNone(measured.spread(programs["quick"]))

    def test_peers_have_the_percents_of_the_same_work(self):
        programs = measured.grouped(generate_part()["benchmarks"])[DECODE]
        self.assertAlmostEqual(programs["quick"][0]["percent_of_bandwidth"], 20.0)  # 100 bytes in 0.5 ms of 1e6 bytes/s
        self.assertAlmostEqual(measured.percent_of_ceiling(programs["quire"]), 10.0)
        self.assertAlmostEqual(measured.percent_of_ceiling(programs["quick"]), 20.0)

    def test_memory_is_that_of_the_entry_and_arithmetic_the_highest(self):
        entries = measured.with_ceilings([own(DECODE, 0, 1.0), own(DECODE, 1, 1.0, bandwidth_ceiling=5e5, flops_ceiling=4e6)])
        self.assertEqual(measured.ceilings_of(entries), (1e6, 4e6))
        self.assertAlmostEqual(entries[1]["percent_of_bandwidth"], 20.0)
        self.assertAlmostEqual(entries[0]["percent_of_flops"], 1.25)
        self.assertEqual(measured.ceilings_of([peer(ENCODE, "x", 0, 1.0)]), (None, None))

    def test_what_memory_gave_beside_a_program_is_its_ceiling(self):
        def ceiling(**entry):
            sample = {"work": DECODE, "who": "quire", "entry": own(DECODE, 0, 1.0) | entry, "reading": 7e5}
            return measured.entry_of(sample, 0)["bandwidth_ceiling"]

        self.assertEqual(ceiling(), 7e5)
        self.assertEqual(ceiling(bandwidth_lowest=9e5), 1e6)  # it was measured between quire's own passes
        slow = measured.entry_of({"work": DECODE, "who": "slow", "seconds": [2e-3], "reading": 5e5}, 0)
        self.assertAlmostEqual(measured.with_ceilings([own(DECODE, 0, 1.0), slow])[1]["percent_of_bandwidth"], 10.0)

    def test_a_round_in_which_memory_changed_is_run_again(self):
        def measure(*readings, tries=3):
            """What is kept, of programs that take as many ms as readings were made before them."""
            made = iter(readings)
            count = [0]

            def reading(place):
                count[0] += 1
                return next(made)

            def run(place):
                return [{"work": DECODE, "who": "quire", "seconds": [count[0] * 1e-3]}]

            place, options = None, types.SimpleNamespace(peers=["b"], tries=tries)
            runners = [peer_works.Runner("quire", run), peer_works.Runner("b", run)]
            with mock.patch.object(peer_works, "reading", reading), mock.patch.object(peers, "note"):
                samples, found = peers.even_round("generate-x", runners, place, options, {})
            return [round(sample["seconds"][0] * 1e3) for sample in samples], [sample["reading"] for sample in samples], found

        self.assertEqual(measure(10, 10, 12), ([1, 2], [10, 11], [10, 10, 12]))
        self.assertEqual(measure(10, 20, 20, 20, 20, 20), ([4, 5], [20, 20], [20, 20, 20]))
        self.assertEqual(measure(10, 20, 20, 10, 10, 15, 10, 30, 30)[0], [4, 5])  # none is even: the evenest
        self.assertEqual(measure(10, 20, 20, tries=1)[0], [1, 2])

    def test_folders_do_not_go_into_results(self):
        said = "note: x\nerror: /home/somebody/models/gpt2.gguf: cannot be read\n"
        self.assertEqual(peer_works.reason_in(said, 1), "error: gpt2.gguf: cannot be read")
        self.assertEqual(peer_works.reason_in("", 9), "exit code 9")

    def test_the_mixed_text_is_the_same_always(self):
        text = peers.mixed_text(5000)
        self.assertEqual(text, peers.mixed_text(5000))
        self.assertTrue(5000 <= len(text.encode()) < 6000)


class Growth(unittest.TestCase):
    def test_time_as_work(self):
        self.assertEqual(scaling.faster_than_work(scaling_part((1, 2, 4))["benchmarks"], False), [])

    def test_one_step_is_too_dear(self):
        found = scaling.faster_than_work(scaling_part((1, 2, 6))["benchmarks"], False)
        self.assertEqual([(x, y) for x, y, *_ in found], [(2, 4)])
        self.assertAlmostEqual(found[0][2], 3.0)
        self.assertAlmostEqual(found[0][3], 2.0)
        self.assertAlmostEqual(found[0][4], 2 * 0.02 / 1.01)

    def test_what_rounds_differ_by_is_no_growth(self):
        self.assertEqual(scaling.faster_than_work(scaling_part((1, 2.07, 4))["benchmarks"], False), [])
        self.assertEqual(len(scaling.faster_than_work(scaling_part((1, 2.09, 4))["benchmarks"], False)), 1)

    def test_threads_are_held_against_their_own_ceilings(self):
        entries = scaling_part((4, 2, 1), (100, 100, 100))["benchmarks"]
        for entry in entries:
            entry["bandwidth_ceiling"] *= entry["x"]
        self.assertEqual(scaling.faster_than_work(entries, True), [])
        self.assertAlmostEqual(scaling.growth(entries, True)[0][3], 0.5)
        self.assertAlmostEqual(scaling.growth(entries, False)[0][3], 1.0)

    def test_single_points_become_one_result(self):
        asked = []

        def quire_entries(place, *arguments):
            place.device = "CPU, made up"
            asked.append(arguments)
            if arguments[0] == "train":
                return [dict(own("train", 0, 4.0, iterations=3), name="train/x")]
            return [dict(own(kind, 0, 1.0, iterations=n), name=f"{kind}/x") for kind, n in (("decode", 32), ("prefill", 4))]

        def options(folder, **more):
            return types.SimpleNamespace(**{"binary": "quire", "work": folder, "threads": 2, "seconds": 1.0, "rounds": 1,
                                            "results": folder, "sweeps": ["sizes"], "points": [], "add": True,
                                            "dtypes": ["float32"], "kinds": ["generate", "train"], **more})

        with tempfile.TemporaryDirectory() as name, mock.patch.object(peer_works, "quire_entries", quire_entries), \
                mock.patch.object(scaling, "available_memory", lambda: 1e12), \
                mock.patch.object(measured, "commit", lambda: "0123456789ab"):
            folder = pathlib.Path(name)
            for more in ({"points": [124], "rounds": 2}, {"points": [774], "kinds": ["train"]}, {"points": [124]}):
                scaling.run(options(folder, **more), lambda text: None)
            found = json.loads((folder / "scaling-sizes.json").read_text())
            self.assertEqual([(e["name"], e["repetition_index"]) for e in found["benchmarks"] if "train" in e["name"]],
                             [("sizes/train 1 x 128/float32/124", 0), ("sizes/train 1 x 128/float32/124", 1),
                              ("sizes/train 1 x 128/float32/774", 0), ("sizes/train 1 x 128/float32/124", 2)])
            self.assertEqual(sum("decode" in e["name"] for e in found["benchmarks"]), 3)
            self.assertEqual(found["context"]["fewest_runs"], {"decode": 32, "prompt": 4, "train": 3})
            self.assertEqual({a[a.index("--seconds") + 1] for a in asked}, {0.3})
            self.assertNotIn("gpt2-medium", [value for a in asked for value in a])
            with mock.patch.object(measured, "commit", lambda: "of another"), self.assertRaises(SystemExit):
                scaling.run(options(folder), lambda text: None)
            scaling.run(options(folder, points=[355], add=False), lambda text: None)  # replaces
            found = json.loads((folder / "scaling-sizes.json").read_text())
            self.assertEqual({e["x"] for e in found["benchmarks"]}, {355})
            self.assertIn("Fewest runs of a point in a round: decode 32, prompt 4, train 3.",
                          cpu_report.scaling_lines({"scaling-sizes": found}))

    def test_work_is_bytes_and_flops(self):
        entries = [own(DECODE, 0, 1.0)]
        self.assertAlmostEqual(scaling.work_seconds(entries, (1e6, 1e6)), 150e-6)


class Tables(unittest.TestCase):
    def test_memory_beside_what_has_no_flops(self):
        work = "start/gpt2/float32"
        entry = measured.entry_of({"work": work, "who": "quire", "seconds": [0.1], "reading": 4e10}, 0)
        lines = cpu_report.section({"start": {"context": CONTEXT, "benchmarks": [entry]}})
        self.assertIn(f"| {work} | quire | 100 ms |  | 40 |  |  |  |", lines)

    def test_rows(self):
        lines = cpu_report.section({"generate-float32": generate_part()})
        self.assertIn(f"| {DECODE} | quire | 1,000 tokens/s | 100 | 0 | 10 | 500 |  |", lines)
        self.assertIn(f"| {DECODE} | slow | 333 tokens/s | 193 |  | 3 |  | 3.00 (2.20–4.00) |", lines)
        self.assertIn(f"| {DECODE} | quick | 2,000 tokens/s |  |  | 20 |  | 0.50 |", lines)
        self.assertIn("Left out, as they did not run: broken in generate-float32.", lines)
        self.assertIn("generate-float32: CPU, made up, commit 0123456789ab, 2026-01-02, torch 9.9.", lines)

    def test_units(self):
        self.assertEqual(cpu_report.rate(ENCODE, [peer(ENCODE, "x", 0, 100.0, items=1_000_000)]), "10.0 MB/s")
        self.assertEqual(cpu_report.rate("load", [peer("load", "x", 0, 12.34, items=5)]), "12.3 ms")
        self.assertEqual(cpu_report.rate("first_token/gpt2/int8/length:32", [peer("x", "x", 0, 0.5, items=32)]), "0.5 ms")
        self.assertEqual([cpu_report.number(v) for v in (1234.5, 99.6, 47.06, 9.96, 0.0625)],
                         ["1,234", "100", "47.1", "10.0", "0.0625"])

    def test_the_readme_has_the_fastest_peer(self):
        lines = cpu_report.short_table({"generate-float32": generate_part()})
        self.assertEqual(lines[2:], ["| decode, float32 | 1,000 tokens/s | quick 2,000 tokens/s | 0.50 |"])
        self.assertEqual(cpu_report.short_table({"scaling-batches": scaling_part((1, 2, 4))}), [])

    def test_scaling(self):
        text = "\n".join(cpu_report.section({"scaling-batches": scaling_part((1, 2, 6))}))
        self.assertIn("| rows decoded together | 1 | 2 | 4 |\n", text)
        self.assertIn("| decode/float32, ms | 1.01 | 2.02 | 6.06 |\n| of the ceiling, % | 99 | 99 | 66 |", text)
        self.assertIn("- decode/float32, rows decoded together 2 → 4: time × 3.00, work × 2.00 (noise 4 %)", text)
        self.assertIn("Nowhere does", "\n".join(cpu_report.section({"scaling-batches": scaling_part((1, 2, 4))})))


class Pictures(unittest.TestCase):
    def test_ratios_are_to_scale(self):
        picture = plots.ranges("a < b", [("one & two", "slow", (2.0, 1.0, 4.0)), ("b", "quick", (0.5, 0.5, 0.5))])
        xml.dom.minidom.parseString(picture)
        centres = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', picture)]
        one = float(re.search(r'<line x1="([\d.]+)"[^/]*stroke="#555555"', picture)[1])
        self.assertAlmostEqual(centres[0] - one, one - centres[1], delta=0.11)  # twice and half as fast
        low, high = map(float, re.search(r'<line x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"[^/]*stroke="#1f77b4"', picture).groups())
        self.assertAlmostEqual(low, one, delta=0.11)
        self.assertAlmostEqual(high - centres[0], centres[0] - low, delta=0.11)

    def test_curves_are_to_scale(self):
        picture = plots.panels("t", [("double", {"a": [(1, 1.0), (2, 2.0), (4, 4.0)]}), ("decades", {"b": [(1, 1.0), (8, 100.0)]})])
        xml.dom.minidom.parseString(picture)
        first, second = re.findall(r'points="([^"]+)"', picture)
        points = [tuple(map(float, p.split(","))) for p in first.split()]
        self.assertAlmostEqual(points[1][0] - points[0][0], points[2][0] - points[1][0], delta=0.11)
        self.assertAlmostEqual(points[0][1] - points[1][1], points[1][1] - points[2][1], delta=0.11)
        self.assertEqual(len(second.split()), 2)

    def test_grids_reach_around(self):
        self.assertEqual(plots.steps(1, 8), [1, 2, 4, 8])
        self.assertEqual(plots.steps(0.4, 5), [0.25, 0.5, 1, 2, 4, 8])
        self.assertEqual(plots.steps(1, 1), [1, 2])
        self.assertTrue(math.isclose(plots.steps(3, 70, 10.0)[-1], 100))


class Rounds(unittest.TestCase):
    def measure(self, path, add, runs):
        runners = [peer_works.Runner(who, run) for who, run in runs.items()]
        place = peer_works.Place(quire=None, python=None, work=None, vocabulary=None, threads=2, seconds=0)
        with contextlib.redirect_stderr(io.StringIO()) as told:
            peers.measure("made-up", runners, place, types.SimpleNamespace(add=add, rounds=2, threads=2, tries=1, peers=["x", "z"]), path)
        return told.getvalue()

    def test_turns_are_taken_and_what_fails_is_named(self):
        calls = []

        def runs(who):
            return lambda place: calls.append(who) or [{"work": "w", "who": who, "items": 1, "seconds": [1.0]}]

        def fails(place):
            calls.append("z")
            raise peer_works.LeftOut("error: no")

        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "made-up.json"
            told = self.measure(path, False, {"quire": runs("quire"), "x": runs("x"), "y": runs("y"), "z": fails})
            self.assertEqual(calls, ["quire", "x", "z", "quire", "x"])  # y was not asked for, z not tried again
            self.assertIn("left out: error: no", told)
            found = json.loads(path.read_text())
            self.assertEqual(found["context"]["left_out"], {"z": "error: no"})
            self.assertEqual([(e["who"], e["repetition_index"], e["repetitions"]) for e in found["benchmarks"]],
                             [("quire", 0, 2), ("x", 0, 2), ("quire", 1, 2), ("x", 1, 2)])
            self.measure(path, True, {"quire": runs("quire"), "x": runs("x")})
            found = json.loads(path.read_text())["benchmarks"]
            self.assertEqual([e["repetition_index"] for e in found], [0, 0, 1, 1, 2, 2, 3, 3])
            other = json.loads(path.read_text())
            other["context"]["commit"] = "another"
            path.write_text(json.dumps(other))
            with self.assertRaises(SystemExit):
                self.measure(path, True, {"quire": runs("quire")})


class SameModel(unittest.TestCase):
    """Who generates reads the same weights: programs that note what they were called with stand for them."""

    CHILD = """#!{python}
import json, pathlib, sys
with open("{noted}", "a") as noted:
    noted.write(json.dumps(sys.argv[1:]) + chr(10))
entry = dict(iterations=1, real_time=1e6, fastest=1e6, slowest=1e6, items_per_second=1000.0)
if "--output" in sys.argv:
    names = [work % ("gpt2-q4_0.gguf", "q4_0") for work in ("decode/%s/%s/batch:8", "first_token/%s/%s/length:32")]
    pathlib.Path(sys.argv[sys.argv.index("--output") + 1]).write_text(json.dumps(
        dict(context=dict(device="CPU"), benchmarks=[entry | dict(name=name) for name in names])))
else:
    print(json.dumps(dict(name="decode/gpt2/int4/batch:8", items=8, seconds=[1.0], versions=dict(peer="1"))))
"""

    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.work, self.noted = pathlib.Path(self.scratch.name), pathlib.Path(self.scratch.name) / "noted"
        child = self.work / "child"
        child.write_text(self.CHILD.format(python=sys.executable, noted=self.noted))
        child.chmod(0o755)
        self.place = peer_works.Place(quire=child, python=child, work=self.work, vocabulary=None, threads=2, seconds=0)

    def model_of(self, runner):
        self.noted.write_text("")
        self.samples = runner.run(self.place)
        arguments = json.loads(self.noted.read_text())
        return pathlib.Path(arguments[arguments.index("--model") + 1]).relative_to(self.work).as_posix()

    def test_quire_and_llama_read_one_file_and_transformers_its_folder(self):
        (self.work / "gpt2").mkdir()
        for dtype, kind in (("float32", "f32"), ("bfloat16", "bf16"), ("float16", "f16"), ("int8", "q8_0"), ("int4", "q4_0")):
            (self.work / f"gpt2-{kind}.gguf").write_text("")
            models = {runner.who: self.model_of(runner) for runner in peer_works.works([], False)[f"generate-{dtype}"]}
            transformers = {"transformers": "gpt2"} if dtype in ("float32", "bfloat16") else {}
            self.assertEqual(models, {"quire": f"gpt2-{kind}.gguf", "llama.cpp": f"gpt2-{kind}.gguf"} | transformers)

    def test_works_are_called_alike_whatever_the_file_is_called(self):
        (self.work / "gpt2-q4_0.gguf").write_text("")
        found = []
        for runner in peer_works.works([], False)["generate-int4"]:
            self.model_of(runner)
            found.append([sample["work"] for sample in self.samples])
        self.assertEqual(found, [["decode/gpt2/int4/batch:8", "first_token/gpt2/int4/length:32"], ["decode/gpt2/int4/batch:8"]])

    def test_without_the_file_nobody_runs(self):
        for runner in peer_works.works([], False)["generate-float32"]:
            with self.assertRaisesRegex(peer_works.LeftOut, r"^gpt2(-f32\.gguf)? is not there$"):
                runner.run(self.place)
        self.assertFalse(self.noted.exists())


class Documents(unittest.TestCase):
    def run_script(self, *arguments, script="bench/peers.py"):
        return subprocess.run([sys.executable, ROOT / script, *map(str, arguments)], capture_output=True, text=True)

    def test_the_projects_own_say_what_its_results_say(self):
        done = self.run_script("documents", "--check")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_keep_and_check(self):
        with tempfile.TemporaryDirectory() as folder:
            root, found = pathlib.Path(folder) / "root", pathlib.Path(folder) / "found"
            found.mkdir()
            for name in ("README.md", "bench/README.md", "kernels/cuda/README.md"):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, root / name)
            self.assertNotEqual(self.run_script("keep", found, "--root", root).returncode, 0)
            (found / "generate-float32.json").write_text(json.dumps(generate_part()))
            (found / "scaling-batches.json").write_text(json.dumps(scaling_part((1, 2, 4))))
            self.assertEqual(self.run_script("keep", found, "--root", root).returncode, 0)
            results = root / "bench" / "results" / "made-up-cpu"
            self.assertEqual(sorted(p.name for p in results.iterdir()),
                             ["generate-float32.json", "peers.svg", "scaling-batches.json", "scaling.svg"])
            bench, readme = ((root / name).read_text() for name in ("bench/README.md", "README.md"))
            self.assertIn("### Made-up CPU, 2 threads", bench)
            self.assertIn("(results/made-up-cpu/peers.svg)", bench)
            self.assertIn("| decode, float32 | 1,000 tokens/s |", readme)
            self.assertEqual(bench.partition(cpu_report.END)[2], (ROOT / "bench/README.md").read_text().partition(cpu_report.END)[2])
            self.assertEqual(self.run_script("documents", "--check", "--root", root).returncode, 0)
            # A card's tables have no CPU's results.
            self.run_script("documents", "--root", root, script="scripts/gpu_report.py")
            self.assertIn("Nothing has been measured on a GPU yet", (root / "bench/README.md").read_text())
            for path, text in ((root / "README.md", readme.replace("1,000 tokens/s", "9,000 tokens/s")),
                               (results / "peers.svg", "<svg/>")):
                before = path.read_text()
                path.write_text(text)
                self.assertEqual(self.run_script("documents", "--check", "--root", root).returncode, 1, path)
                path.write_text(before)


if __name__ == "__main__":
    unittest.main()
