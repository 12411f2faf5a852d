#!/usr/bin/env python3
"""What the compiler made of the CUDA kernels: no GPU is needed for any of this.

    scripts/cuda_kernels.py resources             compiles each file with nvcc, reads ptxas' report and fails
                                                  where a hot kernel spills or has a stack frame
    scripts/cuda_kernels.py table                 the same, and writes the table in kernels/cuda/README.md
    scripts/cuda_kernels.py code build-cuda/libquire_cuda.a
                                                  reads the machine code of a library, object or program with
                                                  cuobjdump: 16-byte accesses, matrix instructions, no local memory

Which kernels are hot, and what is asked of each, is in kernels/cuda/hot_kernels.json. Exits 1 where a check fails and
77, which ctest takes for "skipped", where a tool is missing. cuobjdump and nvdisasm are in CUDA's toolkit and in the
Python packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm (their folder nvidia/cu13/bin: put it into PATH).
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "kernels" / "cuda"
README = FOLDER / "README.md"
SKIPPED = 77

# H100: what an SM has, and what the card reaches (3.35 TB/s by its data sheet, 798 TFLOP/s measured).
REGISTERS, SHARED, THREADS, BLOCKS = 65536, 228 * 1024, 2048, 32
SHARED_OF_SYSTEM = 1024  # bytes of each block
BANDWIDTH, FLOPS = 3.35e12, 798e12

# GPT-2 124M in training at B = 64, T = 1024: the letters of the formulas in hot_kernels.json.
B, T, C, H, L, V = 64, 1024, 768, 12, 12, 50257
LETTERS = dict(B=B, T=T, C=C, H=H, D=C // H, L=L, V=V, N=B * T, S=T,
               P=V * C + T * C + L * (12 * C * C + 13 * C) + 2 * C,
               U=10000)  # different tokens in a batch


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


RULES = json.loads((FOLDER / "hot_kernels.json").read_text())


def allowed_stack(name, arch):
    """Bytes of stack frame that a hot kernel may have: where it is not 0, hot_kernels.json says why."""
    return max((rule["stack"] for rule in RULES["allowed"]
                if re.fullmatch(rule["kernel"], name) and rule.get("arch", arch) == arch), default=0)


def kernel_names(mangled):
    """Their names without namespaces and parameters: layernorm_rows<BFloat16, 3, true>."""
    if not shutil.which("c++filt"):
        skip("c++filt is not in PATH (package binutils)")
    text = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True).stdout
    names = {}
    for symbol, name in zip(mangled, text.splitlines()):
        for part in ("void ", "quire::cuda::", "(anonymous namespace)::", "quire::"):
            name = name.replace(part, "")
        names[symbol] = name.split("(")[0].replace(" >", ">")
    return names


def of_pattern(pattern, names):
    found = sorted(name for name in names if re.fullmatch(pattern, name))
    if not found:
        print(f"error: hot_kernels.json: no kernel is called {pattern}", file=sys.stderr)
    return found


# ---------------------------------------------------------------- registers, shared memory, spills


def compile_for_report(nvcc, source, arch, folder, flags):
    """ptxas' report of a file; the one of an earlier run where nothing it was made of has changed."""
    log, made = folder / f"{source.stem}.{arch}.txt", folder / f"{source.stem}.{arch}.cubin"
    command = [nvcc, "-std=c++20", "-O3", "--expt-relaxed-constexpr", f"-arch={arch}", "-Xptxas", "-v", f"-I{ROOT}",
               *flags, "-cubin", str(source), "-o", str(made)]
    head = " ".join(command) + "\n"
    newest = max(path.stat().st_mtime for part in ("kernels", "base") for path in (ROOT / part).rglob("*")
                 if path.suffix in (".cu", ".cuh", ".h"))
    if log.exists() and log.stat().st_mtime > newest and log.read_text().startswith(head):
        return log.read_text()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}\n{done.stdout}{done.stderr}")
    log.write_text(head + done.stdout + done.stderr)
    return log.read_text()


def resources_of(arguments):
    nvcc = shutil.which(arguments.nvcc) or shutil.which("/usr/local/cuda/bin/nvcc")
    if not nvcc:
        skip("nvcc is not in PATH")
    folder = pathlib.Path(arguments.build)
    folder.mkdir(parents=True, exist_ok=True)
    sources = [path for path in sorted(FOLDER.glob("*.cu")) if "__global__" in path.read_text()]
    # The slowest files first, so that none of them is left alone at the end.
    sources.sort(key=lambda path: -("attention" in path.stem))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        reports = list(pool.map(lambda source: compile_for_report(nvcc, source, arguments.arch, folder, arguments.flag),
                                sources))
    found, current = {}, None
    for line in "\n".join(reports).splitlines():
        if match := re.search(r"(?:Compiling entry function '|Function properties for )(\w+)", line):
            current = found.setdefault(match[1], dict(registers=0, shared=0, stack=0, stores=0, loads=0))
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            current.update(stack=int(match[1]), stores=int(match[2]), loads=int(match[3]))
        elif match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            current.update(registers=int(match[1]), shared=int(shared[1]) if shared else 0)
    names = kernel_names(list(found))
    return {names[symbol]: report for symbol, report in found.items()}


def check_resources(arguments):
    """The report of all kernels, and whether the hot ones keep to it."""
    reports = resources_of(arguments)
    good, checked = True, {}
    for hot in RULES["hot"]:
        matching = of_pattern(hot["kernel"], reports)
        good &= bool(matching)
        checked.update((name, reports[name]) for name in matching)
    for name, report in checked.items():
        spilled = report["stores"] + report["loads"]
        allowed = allowed_stack(name, arguments.arch)
        if report["stack"] > allowed or (spilled and not allowed):
            good = False
            print(f"error: {name} for {arguments.arch}: {report['registers']} registers, stack frame {report['stack']} "
                  f"bytes, spills: {report['stores']} bytes stored, {report['loads']} bytes loaded", file=sys.stderr)
    allowed = sum(0 < report["stack"] <= allowed_stack(name, arguments.arch) for name, report in checked.items())
    others = sum(report["stack"] > 0 for name, report in reports.items() if name not in checked)
    print(f"{len(reports)} kernels for {arguments.arch}: {len(checked)} are hot, of which {allowed} have a stack frame "
          f"that is allowed; of the others {others} have one")
    return reports, good


# ---------------------------------------------------------------- the table


def value_of(formula):
    return eval(formula, {"__builtins__": {}}, LETTERS)


def occupancy(threads, registers, shared):
    """Blocks on an SM, and what stops there from being more."""
    def up(number, step):
        return -(-number // step) * step

    warps = -(-threads // 32)
    by_registers = REGISTERS // up(max(registers, 1) * 32, 256) // 4 * 4 // warps
    limits = {"threads": THREADS // (32 * warps), "blocks": BLOCKS, "registers": by_registers,
              "shared memory": SHARED // up(shared + SHARED_OF_SYSTEM, 128)}
    least = min(limits.values())
    return least, 100 * least * warps * 32 // THREADS, next(what for what, limit in limits.items() if limit == least)


def bytes_text(count):
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.{0 if count >= 1e7 else 1}f} MB"


def time_text(seconds):
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.{0 if seconds >= 1e-5 else 1}f} µs"


def row_of(hot, reports):
    report = reports[hot["shown"]]
    dynamic = value_of(hot.get("dynamic_shared", "0"))
    shared = report["shared"] + dynamic
    blocks, percent, limit = occupancy(hot["threads"], report["registers"], shared)
    moved, flops = value_of(hot["bytes"]), value_of(hot.get("flops", "0"))
    floor, bound = moved / BANDWIDTH, bytes_text(moved)
    if flops / FLOPS > floor:
        floor, bound = flops / FLOPS, f"{bytes_text(moved)}, {flops / 1e9:.0f} GFLOP"
    formula = hot["bytes"] + (f"; flops {hot['flops']}" if "flops" in hot else "")
    return (f"| `{hot['shown']}` | {hot['threads']} | {report['registers']} | {shared:,} | "
            f"{blocks}, {percent}% ({limit}) | `{formula}` | {bound} | {time_text(floor)} |")


def write_table(arguments):
    reports, good = check_resources(arguments)
    rows = [row_of(hot, reports) for hot in RULES["hot"]]
    titles = ["kernel", "threads", "registers", "shared memory, bytes", "blocks on an SM (limited by)", "bytes moved",
              "for GPT-2 124M", "floor"]
    head = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    text = README.read_text()
    before, begin, rest = text.partition("<!-- written by scripts/cuda_kernels.py table -->\n")
    _, end, after = rest.partition("<!-- end of the table -->\n")
    if not end:
        sys.exit(f"error: {README} has no marks of the table")
    README.write_text(before + begin + "\n".join(head + rows) + "\n" + end + after)
    return good


# ---------------------------------------------------------------- machine code

LOAD_16, STORE_16 = r"LDG?\.E\.(\w+\.)*128.*", r"STG?\.E\.(\w+\.)*128.*"
# What "code" in hot_kernels.json asks for. LD and ST are what becomes of pointers that come from memory themselves.
WANTED = {"load16": [LOAD_16], "store16": [STORE_16],
          "matrix": [r"HMMA\.16816\.F32.*", r"LDSM\.16\.M88\.4", r"LDSM\.16\.MT88\.4", r"LDGSTS\.E\.BYPASS.*128.*"]}
COLUMNS = {"loads of 16 bytes": LOAD_16, "other loads": r"LDG?\.E(?!.*\.128).*",
           "stores of 16 bytes": STORE_16, "other stores": r"STG?\.E(?!.*\.128).*",
           "copies to shared": r"LDGSTS.*", "LDSM": r"LDSM.*", "HMMA": r"HMMA.*", "local memory": r"(LDL|STL).*"}
OPCODE = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")


def opcodes_of(cuobjdump, binary, arch):
    """For each kernel how often each opcode stands in it: {symbol: {"LDG.E.128": 3}}."""
    counts, current = {}, None
    with subprocess.Popen([cuobjdump, "-sass", "-arch", arch, str(binary)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "Function :" in line:
                current = counts.setdefault(line.split(":", 1)[1].strip(), {})
            elif current is not None and (match := OPCODE.search(line)):
                current[match[1]] = current.get(match[1], 0) + 1
        errors = process.stderr.read()
    if process.returncode != 0:
        sys.exit(f"error: cuobjdump: {errors}")
    return counts


def check_code(arguments):
    cuobjdump = shutil.which("cuobjdump")
    if not cuobjdump or not shutil.which("nvdisasm"):
        skip("cuobjdump and nvdisasm are not in PATH: see the head of this script")
    good = True
    for arch in arguments.arch.split(","):
        counts = opcodes_of(cuobjdump, arguments.binary, arch)
        if not counts:
            good = False
            print(f"error: {arguments.binary} has no machine code for {arch}", file=sys.stderr)
            continue
        names = kernel_names(list(counts))
        by_name = {names[symbol]: opcodes for symbol, opcodes in counts.items()}
        print(f"\n{arch}\n| kernel | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
        for hot in RULES["hot"]:
            matching = of_pattern(hot["kernel"], by_name)
            good &= bool(matching)
            for name in matching:
                opcodes = by_name[name]
                seen = [sum(n for opcode, n in opcodes.items() if re.fullmatch(pattern, opcode))
                        for pattern in COLUMNS.values()]
                print(f"| `{name}` | {' | '.join(map(str, seen))} |")
                for pattern in (pattern for what in hot.get("code", []) for pattern in WANTED[what]):
                    if not any(re.fullmatch(pattern, opcode) for opcode in opcodes):
                        good = False
                        print(f"error: {name} for {arch} has no {pattern}", file=sys.stderr)
                if seen[-1] > 0 and not allowed_stack(name, arch):
                    good = False
                    print(f"error: {name} for {arch} uses local memory: {seen[-1]} LDL and STL", file=sys.stderr)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("resources", "table"):
        command = commands.add_parser(name)
        command.add_argument("--arch", default="sm_90a")
        command.add_argument("--nvcc", default="nvcc")
        command.add_argument("--build", default=str(ROOT / "build-cuda" / "reports"), help="where reports are kept")
        command.add_argument("--flag", action="append", default=[], help="one more for nvcc: --flag=-lineinfo")
    command = commands.add_parser("code")
    command.add_argument("binary")
    command.add_argument("--arch", default="sm_90a,sm_80")
    arguments = parser.parse_args()
    good = {"resources": lambda a: check_resources(a)[1], "table": write_table, "code": check_code}[
        arguments.command](arguments)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
