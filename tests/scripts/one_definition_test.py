"""What scripts/one_definition.py takes for two definitions of one name, and what it does not."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent.parent / "scripts" / "one_definition.py"


class OneDefinition(unittest.TestCase):
    def look(self, one, other, names=("one.cpp", "other.cpp")):
        """What it says of two files of the namespace quire, and with which code it exits."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [pathlib.Path(folder) / name for name in names]
            for path, text in zip(paths, (one, other)):
                path.write_text(f"namespace quire {{\n{text}\n}}\n")
            done = subprocess.run([sys.executable, SCRIPT, *map(str, paths)], capture_output=True, text=True)
            return done.stdout.replace(folder + "/", ""), done.returncode

    def twice(self, name, *files, **options):
        said, rc = self.look(*files, **options)
        self.assertIn(f"quire::{name}", said)
        self.assertIn("has 2 definitions:", said)
        self.assertEqual(rc, 1)

    def once(self, *files, **options):
        said, rc = self.look(*files, **options)
        self.assertNotIn("has 2", said)
        self.assertEqual(rc, 0)

    def test_classes(self):
        self.twice("Shape", "struct Shape { int rows; };", "struct Shape { double rows; };")
        self.twice("Shape", "class Shape { int rows; };", "struct Shape { int rows; };")
        self.twice("Kind", "enum class Kind { a };", "enum Kind { b };")
        self.twice("Box::Lid", "struct Box { struct Lid; };\nstruct Box::Lid { int at; };", "struct Box::Lid {};")
        self.twice("Pack<float>", "template <> struct Pack<float> {};", "template <> struct Pack<float> { int x; };")
        self.once("struct Shape;", "struct Shape { int rows; };")
        self.once("template <> struct Pack<float> {};", "template <> struct Pack<int> {};")

    def test_functions_that_a_linker_merges(self):
        self.twice("f(int)", "inline int f(int x) { return x; }", "inline int f(int y) { return -y; }")
        self.twice("f(int)", "constexpr int f(int x = 2) { return x; }", "inline int f(int) { return 1; }")
        self.twice("f(T)", "template <class T> T f(T x) { return x; }", "template <class U> U f(T x) { return -x; }")
        self.twice("f()", "int f() { return 1; }", "int f() { return 2; }", names=("one.h", "other.cuh"))
        self.once("inline int f(int x) { return x; }", "inline int f(float x) { return 1; }")
        self.once("inline int f(int x);", "inline int f(int x) { return x; }")
        self.once("template <class T> int f(T x) { return 1; }", "template <int kN> int f(T x) { return 2; }")
        # Of these a linker takes both only where one is a library's that nobody asked for it.
        self.once("int f() { return 1; }", "int f() { return 2; }")

    def test_variables(self):
        self.twice("kMost", "inline constexpr int kMost = 1;", "inline constexpr int kMost = 2;")
        self.once("constexpr int kMost = 1;", "constexpr int kMost = 2;")

    def test_what_is_a_files_own(self):
        own = "namespace {{ struct Shape {{ int rows[{0}]; }}; inline int f() {{ return {0}; }} }}"
        self.once(own.format(1), own.format(2))
        self.once("static inline int f() { return 1; }", "static inline int f() { return 2; }")
        local = "TEST_CASE(\"a {0}\", \"[slow]\") {{ struct Case {{ int at[{0}]; }}; }}"
        self.once(local.format(1), local.format(2))
        self.once("inline int f() { struct Case { int x; }; return 1; }", "int g() { struct Case {}; return 1; }")

    def test_of_nothing_it_says_so(self):
        done = subprocess.run([sys.executable, SCRIPT, "not_there.cpp"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no definition in 1 files", done.stderr)


if __name__ == "__main__":
    if subprocess.run(["sh", "-c", "ctags --version 2>/dev/null | grep -q Universal"]).returncode:
        print("no Universal Ctags here")
        sys.exit(77)
    unittest.main()
