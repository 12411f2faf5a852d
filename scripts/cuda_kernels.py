#!/usr/bin/env python3
"""What the compiler made of the CUDA kernels: no GPU is needed for any of this.

    scripts/cuda_kernels.py resources             compiles each file with nvcc, reads ptxas' report and fails
                                                  where a hot kernel spills or has a stack frame
    scripts/cuda_kernels.py table                 the same, and writes the table in kernels/cuda/README.md
    scripts/cuda_kernels.py code                  compiles the same way, and reads the machine code with cuobjdump:
                                                  16-byte accesses, loads that are on their way together, matrix
                                                  instructions, no local memory
    scripts/cuda_kernels.py code build-cuda/libquire_cuda.a
                                                  the same of a library, object or program

Which kernels are hot, and what is asked of each, is in kernels/cuda/hot_kernels.json. Reports are kept, and made anew
for the files whose text, or that of a header of theirs, has changed. Exits 1 where a check fails and 77, which ctest
takes for "skipped", where a tool is missing. cuobjdump and nvdisasm are in CUDA's toolkit and in the Python packages
nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm. They are looked for in PATH, beside nvcc, and where
    python3 -m venv build/cuda-tools && build/cuda-tools/bin/pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm
puts them.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import machine_code

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "kernels" / "cuda"
README = FOLDER / "README.md"
SKIPPED = 77
ARCHS = "sm_90a,sm_80"

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


def digest_of(head, paths):
    """Of a text and of files; None where a file is gone."""
    digest = hashlib.sha256(head.encode())
    for path in paths:
        if not pathlib.Path(path).exists():
            return None
        digest.update(pathlib.Path(path).read_bytes())
    return digest.hexdigest()


def compile_for_report(nvcc, source, arch, folder, flags):
    """ptxas' report of a file, and its machine code beside it: those of an earlier run where nothing they were made of
    has changed."""
    made, report = folder / f"{source.stem}.{arch}.cubin", folder / f"{source.stem}.{arch}.json"
    depends = folder / f"{source.stem}.{arch}.d"
    command = [nvcc, "-std=c++20", "-O3", "--expt-relaxed-constexpr", f"-arch={arch}", "-Xptxas", "-v", f"-I{ROOT}",
               *flags, "-MD", "-MF", str(depends), "-cubin", str(source), "-o", str(made)]
    if made.exists() and report.exists():
        kept = json.loads(report.read_text())
        if kept["digest"] == digest_of(" ".join(command), kept["made_of"]):
            return kept["text"], made
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}\n{done.stdout}{done.stderr}")
    made_of = sorted(path for path in depends.read_text().replace("\\\n", " ").split()[1:]
                     if path.startswith(f"{ROOT}/"))
    text = done.stdout + done.stderr
    report.write_text(json.dumps(dict(digest=digest_of(" ".join(command), made_of), made_of=made_of, text=text)))
    return text, made


def find_nvcc(arguments):
    return shutil.which(arguments.nvcc) or shutil.which("/usr/local/cuda/bin/nvcc")


def compiled(arguments, arch):
    """The reports of all files with kernels, and the files of their machine code."""
    nvcc = find_nvcc(arguments)
    if not nvcc:
        skip("nvcc is not in PATH")
    folder = pathlib.Path(arguments.build)
    folder.mkdir(parents=True, exist_ok=True)
    sources = [path for path in sorted(FOLDER.glob("*.cu")) if "__global__" in path.read_text()]
    # The slowest files first, so that none of them is left alone at the end.
    sources.sort(key=lambda path: -("attention" in path.stem))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda source: compile_for_report(nvcc, source, arch, folder, arguments.flag), sources))


def resources_of(arguments, arch):
    reports = [text for text, _ in compiled(arguments, arch)]
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


def check_resources(arguments, arch):
    """The report of all kernels, and whether the hot ones keep to it."""
    reports = resources_of(arguments, arch)
    good, checked = True, {}
    for hot in RULES["hot"]:
        matching = of_pattern(hot["kernel"], reports)
        good &= bool(matching)
        checked.update((name, reports[name]) for name in matching)
    for name, report in checked.items():
        spilled = report["stores"] + report["loads"]
        allowed = allowed_stack(name, arch)
        if report["stack"] > allowed or (spilled and not allowed):
            good = False
            print(f"error: {name} for {arch}: {report['registers']} registers, stack frame {report['stack']} "
                  f"bytes, spills: {report['stores']} bytes stored, {report['loads']} bytes loaded", file=sys.stderr)
    allowed = sum(0 < report["stack"] <= allowed_stack(name, arch) for name, report in checked.items())
    others = sum(report["stack"] > 0 for name, report in reports.items() if name not in checked)
    print(f"{len(reports)} kernels for {arch}: {len(checked)} are hot, of which {allowed} have a stack frame "
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
    reports, good = check_resources(arguments, ARCHS.split(",")[0])
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
PRODUCTS = r"HMMA\.16816\.F32.*"
WANTED = {"load16": [LOAD_16], "store16": [STORE_16], "products": [PRODUCTS],
          "matrix": [PRODUCTS, r"LDSM\.16\.M88\.4", r"LDSM\.16\.MT88\.4", r"LDGSTS\.E\.BYPASS.*128.*"]}
COLUMNS = {"loads of 16 bytes": LOAD_16, "other loads": r"LDG?\.E(?!.*\.128).*",
           "stores of 16 bytes": STORE_16, "other stores": r"STG?\.E(?!.*\.128).*",
           "copies to shared": r"LDGSTS.*", "LDSM": r"LDSM.*", "HMMA": r"HMMA.*", "local memory": r"(LDL|STL).*"}


def find_disassembler(arguments):
    """cuobjdump, and an environment in which it finds nvdisasm."""
    folders = [os.environ.get("PATH", "")]
    if nvcc := find_nvcc(arguments):
        folders.append(str(pathlib.Path(nvcc).resolve().parent))
    for build in dict.fromkeys([pathlib.Path(arguments.build).parent, ROOT / "build"]):
        folders += map(str, build.glob("cuda-tools/lib/python3*/site-packages/nvidia/cu*/bin"))
    path = os.pathsep.join(folders)
    cuobjdump = shutil.which("cuobjdump", path=path)
    if not cuobjdump or not shutil.which("nvdisasm", path=path):
        skip("cuobjdump and nvdisasm are not found: see the head of this script")
    return cuobjdump, dict(os.environ, PATH=path)


def code_of(tool, binary, arch, folder):
    """What machine_code.py says of a file's kernels, or said of the same file."""
    cuobjdump, environment = tool
    digest = digest_of(arch, [binary, machine_code.__file__])
    report = folder / f"{binary.stem}.{arch}.code.json"
    if report.exists() and (kept := json.loads(report.read_text()))["digest"] == digest:
        return kept["kernels"]
    with subprocess.Popen([cuobjdump, "-sass", "-arch", arch, str(binary)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=environment) as process:
        kernels = machine_code.kernels_of(process.stdout)
        errors = process.stderr.read()
    if process.returncode != 0:
        sys.exit(f"error: cuobjdump: {errors}")
    report.write_text(json.dumps(dict(digest=digest, kernels=kernels)))
    return kernels


def faults_of(hot, name, code, arch):
    """What a hot kernel's machine code lacks."""
    opcodes = code["opcodes"]
    for pattern in (pattern for what in hot.get("code", []) for pattern in WANTED[what]):
        if not any(re.fullmatch(pattern, opcode) for opcode in opcodes):
            yield f"has no {pattern}"
    local = sum(n for opcode, n in opcodes.items() if re.fullmatch(COLUMNS["local memory"], opcode))
    if local > 0 and not allowed_stack(name, arch):
        yield f"uses local memory: {local} LDL and STL"
    least, seen = least_loads(hot, name), loads_of(hot, code)
    if seen < least:
        yield f"has {seen} loads on their way before it reads the result of one, wants {least}"


def least_loads(hot, name):
    """"loads_in_flight" is a number, or one for each of several patterns."""
    least = hot.get("loads_in_flight", 0)
    if isinstance(least, int):
        return least
    return max((number for pattern, number in least.items() if re.fullmatch(pattern, name)), default=0)


def loads_of(hot, code):
    """Those of 16 bytes, where the kernel is to have such."""
    return code["loads16" if "load16" in hot.get("code", []) else "loads"]


def check_code(arguments):
    tool = find_disassembler(arguments)
    folder = pathlib.Path(arguments.build)
    folder.mkdir(parents=True, exist_ok=True)
    good = True
    for arch in arguments.arch.split(","):
        binaries = [pathlib.Path(arguments.binary)] if arguments.binary else []
        binaries = binaries or [made for _, made in compiled(arguments, arch)]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            kernels = {symbol: code for found in pool.map(lambda binary: code_of(tool, binary, arch, folder), binaries)
                       for symbol, code in found.items()}
        if not kernels:
            good = False
            print(f"error: {arguments.binary or FOLDER} has no machine code for {arch}", file=sys.stderr)
            continue
        names = kernel_names(list(kernels))
        by_name = {names[symbol]: code for symbol, code in kernels.items()}
        print(f"\n{arch}\n| kernel | {' | '.join(COLUMNS)} | loads under way |\n|{'---|' * (len(COLUMNS) + 2)}")
        for hot in RULES["hot"]:
            matching = of_pattern(hot["kernel"], by_name)
            good &= bool(matching)
            for name in matching:
                code = by_name[name]
                seen = [sum(n for opcode, n in code["opcodes"].items() if re.fullmatch(pattern, opcode))
                        for pattern in COLUMNS.values()]
                print(f"| `{name}` | {' | '.join(map(str, seen))} | {loads_of(hot, code)} |")
                for fault in faults_of(hot, name, code, arch):
                    good = False
                    print(f"error: {name} for {arch} {fault}", file=sys.stderr)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("resources", "table", "code"):
        command = commands.add_parser(name)
        command.add_argument("--arch", default=ARCHS, help="those that are checked")
        command.add_argument("--nvcc", default="nvcc")
        command.add_argument("--build", default=str(ROOT / "build-cuda" / "reports"), help="where reports are kept")
        command.add_argument("--flag", action="append", default=[], help="one more for nvcc: --flag=-lineinfo")
        if name == "code":
            command.add_argument("binary", nargs="?")
    arguments = parser.parse_args()
    if arguments.command == "resources":
        good = all([check_resources(arguments, arch)[1] for arch in arguments.arch.split(",")])
    else:
        good = {"table": write_table, "code": check_code}[arguments.command](arguments)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
